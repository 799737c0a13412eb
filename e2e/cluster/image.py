"""The one image: empty directories, links, and `pause`. All else that it runs is lent by the machine (`loans`).

An OCI image layout in a tar file (github.com/opencontainers/image-spec, v1.1), written by hand: `ctr images import`
takes it, so that no registry and no builder is needed.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import platform
import sys
import tarfile
from pathlib import Path
from typing import Any

LOCAL = "coxswain.dev/local:dev"
PAUSE = "coxswain.dev/pause:dev"
PROGRAMS = "/opt/kube/bin"
"""Where containers find the programs of `binaries`."""

SOURCES = Path(__file__).parents[2]
USER = 65532
MERGED = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
DIRECTORIES = ("dev", "etc", "home", "mnt", "opt", "proc", "root", "run", "sys", "usr", "var", "var/tmp")
SHARED_FILES = ("/etc/ld.so.cache", "/etc/alternatives", "/etc/ssl", "/etc/localtime", "/etc/mime.types")
FILES = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\ncoxswain:x:65532:65532::/home/coxswain:/bin/sh\n",
    "etc/group": "root:x:0:\ncoxswain:x:65532:\n",
    "etc/nsswitch.conf": "hosts: files dns\n",
}
MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}


def loans(programs: Path) -> dict[str, str]:
    """What every container gets read-only: path in the container, and the machine's path.

    The system's `/usr`, the Python installation behind this environment, the environment and the source tree, each at
    the path it has here, so that shebangs and links hold; and the `programs` of the cluster.
    """
    places = {Path("/usr"), Path(sys.prefix), SOURCES, *_python_homes()}
    places |= {Path("/", name) for name in MERGED if Path("/", name).is_dir() and not Path("/", name).is_symlink()}
    places |= {Path(name) for name in SHARED_FILES if Path(name).exists()}
    outer = [place for place in places if not any(other in place.parents for other in places)]
    return {**{str(place): str(place) for place in sorted(outer)}, PROGRAMS: str(programs)}


def _python_homes() -> set[Path]:
    """Roots of the interpreter's installation: as it is called, and along its links to where it really is."""
    homes = {Path(sys.base_prefix), Path(sys.base_prefix).resolve()}
    link = Path(sys.executable)
    while link.is_symlink():
        link = link.parent / link.readlink()
        if link.parent.name == "bin" and not link.is_relative_to(sys.prefix):
            homes.add(Path(os.path.normpath(link.parents[1])))
    return homes


def unreadable(paths: list[Path]) -> list[Path]:
    """Of these directories, those that another user than their owner cannot enter: containers run as one."""
    return [path for path in paths if path.is_dir() and path.stat().st_mode & 0o005 != 0o005]


def write(path: Path, programs: Path) -> None:
    """Write the image, under the names LOCAL and PAUSE, to a tar file. `pause` is inside: sandboxes get no loans."""
    layer = _layer(programs / "pause")
    blobs = {_digest(layer): layer}
    search = os.pathsep.join([f"{sys.prefix}/bin", PROGRAMS, "/usr/local/bin", "/usr/bin", "/bin"])
    environment = [f"PATH={search}", "HOME=/home/coxswain"]
    local = {"Env": environment, "User": f"{USER}:{USER}", "WorkingDir": "/home/coxswain"}
    pause = {"Entrypoint": ["/pause"], "User": "65535:65535"}
    manifests = [_manifest(name, config, layer, blobs) for name, config in ((LOCAL, local), (PAUSE, pause))]
    index = {"schemaVersion": 2, "manifests": manifests}
    with tarfile.open(path, "w") as tar:
        _add(tar, "oci-layout", json.dumps({"imageLayoutVersion": "1.0.0"}).encode())
        _add(tar, "index.json", json.dumps(index).encode())
        for digest, blob in blobs.items():
            _add(tar, f"blobs/sha256/{digest.removeprefix('sha256:')}", blob)


def _manifest(name: str, settings: dict[str, Any], layer: bytes, blobs: dict[str, bytes]) -> dict[str, Any]:
    architecture = MACHINES.get(platform.machine(), platform.machine())
    rootfs = {"type": "layers", "diff_ids": [_digest(gzip.decompress(layer))]}
    config = _blob({"architecture": architecture, "os": "linux", "config": settings, "rootfs": rootfs}, blobs)
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", **config},
        "layers": [
            {
                "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
                "digest": _digest(layer),
                "size": len(layer),
            }
        ],
    }
    return {
        "mediaType": manifest["mediaType"],
        **_blob(manifest, blobs),
        "platform": {"architecture": architecture, "os": "linux"},
        "annotations": {"io.containerd.image.name": name, "org.opencontainers.image.ref.name": name},
    }


def _blob(content: dict[str, Any], blobs: dict[str, bytes]) -> dict[str, Any]:
    data = json.dumps(content).encode()
    blobs[_digest(data)] = data
    return {"digest": _digest(data), "size": len(data)}


def _layer(pause: Path) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name in DIRECTORIES:
            _directory(tar, name, 0o755)
        _directory(tar, "tmp", 0o1777)
        _directory(tar, "home/coxswain", 0o755, owner=USER)
        for name in MERGED:
            if Path("/", name).is_symlink():
                link = tarfile.TarInfo(name)
                link.type, link.linkname = tarfile.SYMTYPE, str(Path("/", name).readlink())
                tar.addfile(link)
        for name, text in FILES.items():
            _add(tar, name, text.encode())
        _add(tar, "pause", pause.read_bytes(), mode=0o755)
    return gzip.compress(buffer.getvalue(), mtime=0)


def _directory(tar: tarfile.TarFile, name: str, mode: int, *, owner: int = 0) -> None:
    entry = tarfile.TarInfo(name)
    entry.type, entry.mode, entry.uid, entry.gid = tarfile.DIRTYPE, mode, owner, owner
    tar.addfile(entry)


def _add(tar: tarfile.TarFile, name: str, data: bytes, *, mode: int = 0o644) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(data), mode
    tar.addfile(entry, io.BytesIO(data))


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"
