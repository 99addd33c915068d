"""Addresses, downloads with limits, and the guard against addresses that clients may not reach."""
