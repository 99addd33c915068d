"""The HTTP and WebSocket service, and its page. Needs the extra `serve`; see docs/service.md."""
