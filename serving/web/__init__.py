"""The web server: HTTP, WebSocket, page; imports sessions, and alone knows web libraries."""
