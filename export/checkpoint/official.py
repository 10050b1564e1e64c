"""The eight official files, and what names and addresses mean them.

The official site publishes no checksums. The sha256 below are those that independent public
projects pin for these files, at least two for each (docs/decisions/export.md).
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from urllib.parse import quote

from ...configs.errors import InputError
from ...configs.models import model_config
from .transfer import Remote


@dataclass(frozen=True)
class HubName:
    """A repository of the hub, and a branch, tag or commit of it."""

    name: str
    revision: str = "main"

    def url(self, path: str) -> str:
        """Address of a file; $HF_ENDPOINT names a mirror instead of the hub."""
        endpoint = (os.environ.get("HF_ENDPOINT") or _HUB).rstrip("/")
        revision = quote(self.revision, safe="")
        return f"{endpoint}/{self.name}/resolve/{revision}/{quote(path)}"


_SITE = "https://dl.fbaipublicfiles.com/segment_anything_2"
#: the hub's own rule: parts of at most 96 ASCII characters, no "--" or ".." in them, neither "-"
#: nor "." at an end. So an id makes one folder, and no other id makes the same
_HUB_ID = re.compile(r"(?!.*(--|\.\.))[A-Za-z0-9][\w.-]{0,95}/(?![.-])[\w.-]{1,96}(?<![.-])", re.A)
_FILES = (".pt", ".pth", ".bin", ".ckpt", ".safetensors")
_HUB = "https://huggingface.co"

_PUBLISHED = [
    ("092824/sam2.1_hiera_tiny", 156008466,
     "7402e0d864fa82708a20fbd15bc84245c2f26dff0eb43a4b5b93452deb34be69"),
    ("092824/sam2.1_hiera_small", 184416285,
     "6d1aa6f30de5c92224f8172114de081d104bbd23dd9dc5c58996f0cad5dc4d38"),
    ("092824/sam2.1_hiera_base_plus", 323606802,
     "a2345aede8715ab1d5d31b4a509fb160c5a4af1970f199d9054ccfb746c004c5"),
    ("092824/sam2.1_hiera_large", 898083611,
     "2647878d5dfa5098f2f8649825738a9345572bae2d4350a2468587ece47dd318"),
    ("072824/sam2_hiera_tiny", 155906050,
     "65b50056e05bcb13694174f51bb6da89c894b57b75ccdf0ba6352c597c5d1125"),
    ("072824/sam2_hiera_small", 184309650,
     "95949964d4e548409021d47b22712d5f1abf2564cc0c3c765ba599a24ac7dce3"),
    ("072824/sam2_hiera_base_plus", 323493298,
     "d0bb7f236400a49669ffdd1be617959a8b1d1065081789d7bbff88eded3a8071"),
    ("072824/sam2_hiera_large", 897952466,
     "7442e4e9b732a508f80e141e7c2913437a3610ee0c77381a66658c3a445df87b"),
]  # fmt: skip

OFFICIAL: dict[str, Remote] = {
    path.partition("/")[2]: Remote(f"{_SITE}/{path}.pt", size, sha256)
    for path, size, sha256 in _PUBLISHED
}


def official_name(source: str) -> str | None:
    """The official name that `source` means: a name, short name, URL or hub id of ours."""
    by_url = {remote.url: name for name, remote in OFFICIAL.items()}
    if source in by_url:
        return by_url[source]
    name = source.removeprefix("facebook/").replace("-", "_")
    try:
        full = model_config(name).name
    except InputError:
        return None
    return full if full in OFFICIAL else None


def hub_name(source: str) -> HubName | None:
    """What ``USER/REPO`` or ``USER/REPO@REVISION`` names; None for anything else."""
    name, at, revision = source.partition("@")
    if not _HUB_ID.fullmatch(name) or name.endswith(_FILES):
        return None
    if at and (not re.fullmatch(r"[\w][\w./-]*", revision, re.A) or ".." in revision):
        return None
    return HubName(name, revision or "main")


def names_a_download(source: str) -> bool:
    """Whether `source` is an official name or URL, or has the form of a hub id."""
    hub_id = _HUB_ID.fullmatch(source) is not None and not source.endswith(_FILES)
    return official_name(source) is not None or hub_id
