"""The optional packages: which extra installs what a module comes from."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from .errors import MissingExtraError

#: top-level module -> (distribution, extra)
EXTRAS = {
    "click": ("click", "media"),
    "av": ("av", "media"),
    "cv2": ("opencv-python-headless", "media"),
    "PIL": ("pillow", "media"),
    "pycocotools": ("pycocotools", "media"),
    "torch": ("torch", "export"),
    "onnx": ("onnx", "export"),
    "onnx_ir": ("onnx-ir", "export"),
    "onnxscript": ("onnxscript", "export"),
    "ml_dtypes": ("ml_dtypes", "export"),
    "safetensors": ("safetensors", "export"),
    "onnxruntime": ("onnxruntime", "cpu"),
    "openvino": ("openvino", "openvino"),
    "tensorrt": ("tensorrt", "tensorrt"),
    "cuda": ("cuda-python", "tensorrt"),
    "pycuda": ("pycuda", "pycuda"),
    "triton": ("triton", "kernels"),
    "starlette": ("starlette", "serve"),
    "uvicorn": ("uvicorn", "serve"),
    "websockets": ("websockets", "serve"),
    "python_multipart": ("python-multipart", "serve"),
    "prometheus_client": ("prometheus-client", "serve"),
    "graphql": ("graphql-core", "serve"),
    "supervision": ("supervision", "supervision"),
    "osam": ("osam", "osam"),
    "cvat_sdk": ("cvat-sdk", "cvat"),
    "ray": ("ray", "ray"),
    "transformers": ("transformers", "dev"),
    "matplotlib": ("matplotlib", "dev"),
}


def missing_extra(feature: str, error: ImportError) -> MissingExtraError | None:
    """What an import that failed means for `feature`; None for a module that is no extra's.

    A package that is there and does not load, such as one whose shared libraries are missing, is
    told with the reason.
    """
    module = (error.name or "").partition(".")[0]
    if module not in EXTRAS:
        return None
    why = "" if isinstance(error, ModuleNotFoundError) else " ".join(str(error).split())
    return MissingExtraError(feature, *EXTRAS[module], why)


@contextmanager
def extras_of(feature: str) -> Iterator[None]:
    """Imports in the block that fail for want of an optional package raise MissingExtraError."""
    try:
        yield
    except MissingExtraError:
        raise
    except ImportError as error:
        if (missing := missing_extra(feature, error)) is None:
            raise
        raise missing from None
