"""The service: the detector over HTTP and WebSocket, and its page. Needs the extra `serve`.

Its interface is described in docs/service.md.
"""
