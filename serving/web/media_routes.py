"""Routes of media: samples, uploads, what the server says of itself."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ...configs.errors import StateError
from ...configs.version import VERSION
from .bodies import announced_bytes, body_parts
from .services import services_of

#: bytes written at a time: threads cost more than small parts
_BLOCK = 1 << 20


async def health(request: Request) -> Response:
    """Whether the server works; needs no token."""
    stopping = services_of(request).stopping
    status = "stopping" if stopping else "ok"
    return JSONResponse({"status": status, "version": VERSION}, 503 if stopping else 200)


async def info(request: Request) -> Response:
    """What runs here, and what it takes at most."""
    services = services_of(request)
    limits, model = services.limits, services.model.bundle.model
    return JSONResponse(
        {
            "version": VERSION,
            "model": model.name,
            "image_size": model.image_size,
            "backend": services.backend,
            "api": ["v1"],
            "limits": {
                "upload_bytes": limits.upload_bytes,
                "frames": limits.frames,
                "pixels": limits.pixels,
                "objects": limits.objects,
                "sessions": limits.sessions,
                "idle_seconds": limits.idle_seconds,
            },
        }
    )


async def samples(request: Request) -> Response:
    """The clips and images that ship with the package."""
    listed = [
        {
            "sample": name,
            "kind": medium.kind,
            "title": medium.name,
            "width": medium.width,
            "height": medium.height,
            "num_frames": medium.num_frames,
            "fps": medium.fps,
        }
        for name, medium in services_of(request).media.samples.items()
    ]
    return JSONResponse({"samples": listed})


async def list_media(request: Request) -> Response:
    """What was uploaded."""
    media = services_of(request).media.listed()
    return JSONResponse({"media": [medium.describe() for medium in media]})


async def upload(request: Request) -> Response:
    """A file, as it is, as the body."""
    services = services_of(request)
    name = request.query_params.get("name", "")
    with services.media.upload(name, announced_bytes(request)) as upload:
        block = bytearray()
        async for part in body_parts(request, services.limits.upload_seconds):
            block += part
            if len(block) >= _BLOCK:
                content, block = bytes(block), bytearray()
                await services.aside(lambda content=content: upload.write(content))  # type: ignore[misc]
        upload.write(bytes(block))
        medium = await services.aside(upload.finish)
    services.metrics.uploaded.inc(medium.bytes)
    return JSONResponse(medium.describe(), 201)


async def remove_media(request: Request) -> Response:
    """Remove an uploaded file."""
    services, media = services_of(request), request.path_params["media"]
    if not await services.aside(lambda: services.media.remove(media)):
        raise StateError(f"media {media} is in use by a session: close it first")
    return Response(status_code=204)
