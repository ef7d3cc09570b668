#!/usr/bin/env python3
"""oci.py VERSION FOLDER MODULE...: writes each module as an OCI image layout, FOLDER/<name>, and prints its digest.

No tool writes these bytes the same everywhere: docker, podman and buildah each choose times, compression and fields of their own, by
version, and need storage or a daemon. So the layer is stored in gzip's frame, not compressed (what zlib makes of the same input is its own
choice, too), and everything else is fixed: what is left to differ is the module.
(OCI image layout and image manifest, specification 1.1; gzip: RFC 1952; stored blocks: RFC 1951, 3.2.4; tar: POSIX.1 ustar. Istio and Envoy
Gateway take the last layer's plugin.wasm.)
"""
import hashlib
import json
import os
import shutil
import struct
import sys
import tarfile
import zlib
from io import BytesIO

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
EPOCH = "1970-01-01T00:00:00Z"


def tar(module):
    entry = tarfile.TarInfo("plugin.wasm")
    entry.size, entry.mode, entry.mtime = len(module), 0o644, 0
    out = BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        archive.addfile(entry, BytesIO(module))
    return out.getvalue()


def gzip(data):
    """The data in gzip's frame, in stored blocks, of no time and no system."""
    largest = 0xFFFF
    blocks = []
    for start in range(0, len(data), largest):
        block = data[start : start + largest]
        last = start + largest >= len(data)
        blocks += [struct.pack("<BHH", last, len(block), len(block) ^ 0xFFFF), block]
    header = b"\x1f\x8b\x08" + bytes(6) + b"\xff"
    return header + b"".join(blocks) + struct.pack("<II", zlib.crc32(data), len(data) & 0xFFFFFFFF)


def canonical(value):
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


class Layout:
    def __init__(self, folder):
        self.folder = folder
        os.makedirs(os.path.join(folder, "blobs", "sha256"))

    def file(self, name, data):
        with open(os.path.join(self.folder, name), "wb") as out:
            out.write(data)

    def blob(self, media_type, data):
        digest = hashlib.sha256(data).hexdigest()
        self.file(os.path.join("blobs", "sha256", digest), data)
        return {"mediaType": media_type, "digest": "sha256:" + digest, "size": len(data)}


def write(folder, name, version, module):
    labels = {
        "org.opencontainers.image.title": name,
        "org.opencontainers.image.description": "A quota for every API key, decided inside Envoy",
        "org.opencontainers.image.licenses": "Apache-2.0",
        "org.opencontainers.image.version": version,
    }
    layout = Layout(folder)
    archive = tar(module)
    layer = layout.blob(LAYER, gzip(archive))
    config = {
        # Nothing runs in it; these are what images of a Dockerfile have, and what every registry takes.
        "architecture": "amd64",
        "os": "linux",
        "created": EPOCH,
        "config": {"Labels": labels},
        "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(archive).hexdigest()]},
        "history": [{"created": EPOCH, "created_by": "COPY plugin.wasm /plugin.wasm"}],
    }
    config = layout.blob(CONFIG, canonical(config))
    manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer], "annotations": labels}
    manifest = layout.blob(MANIFEST, canonical(manifest))
    named = {**manifest, "annotations": {"org.opencontainers.image.ref.name": version}}
    layout.file("index.json", canonical({"schemaVersion": 2, "manifests": [named]}))
    layout.file("oci-layout", canonical({"imageLayoutVersion": "1.0.0"}))
    return manifest["digest"]


def main(version, folder, *modules):
    for path in modules:
        name = os.path.basename(path).removesuffix(".wasm")
        with open(path, "rb") as file:
            module = file.read()
        out = os.path.join(folder, name)
        # Under another name first: an interrupted run leaves no half of a layout.
        new = f"{out}.{os.getpid()}"
        shutil.rmtree(new, ignore_errors=True)
        digest = write(new, name, version, module)
        shutil.rmtree(out, ignore_errors=True)
        os.rename(new, out)
        print(f"{out}  {name}:{version}")
        print(f"  image   {digest}")
        print(f"  module  sha256:{hashlib.sha256(module).hexdigest()}")


if __name__ == "__main__":
    main(*sys.argv[1:])
