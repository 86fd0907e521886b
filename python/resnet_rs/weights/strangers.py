"""Files that users pass for weights by mistake: their names, and the remedy for each.

One table of first bytes and one of names. A file of a format that is read is in neither.
"""

from __future__ import annotations

import os
import re

HEAD_BYTES = 1024
"""The bytes at a file's start that decide."""

_UNPACK = "unpack it, and pass the file inside"
_AGAIN = "the download went wrong, so fetch the file again, and check the address and the access"
_STATE = "export the network to ONNX, or save its weights where it was trained"

_BY_BYTES: tuple[tuple[int, bytes, str], ...] = (
    (
        0,
        b"version https://git-lfs",
        "a Git LFS pointer, not the file: fetch it with `git lfs pull`",
    ),
    (0, b"<!doctype", f"a web page: {_AGAIN}"),
    (0, b"<html", f"a web page: {_AGAIN}"),
    (0, b"\x1f\x8b", f"a gzip archive: {_UNPACK}"),
    (0, b"bzh", f"a bzip2 archive: {_UNPACK}"),
    (0, b"\xfd7zxz", f"an xz archive: {_UNPACK}"),
    (0, b"\x28\xb5\x2f\xfd", f"a Zstandard archive: {_UNPACK}"),
    (0, b"7z\xbc\xaf\x27\x1c", f"a 7z archive: {_UNPACK}"),
    (0, b"rar!", f"a RAR archive: {_UNPACK}"),
    (
        0,
        b"\x93numpy",
        "a single NumPy array: pickle a dict of all arrays by their tensors' names",
    ),
    (4, b"tfl3", f"a TensorFlow Lite model: {_STATE}"),
    (4, b"et12", f"an ExecuTorch program: {_STATE}"),
    (0, b"gguf", f"a GGUF file: {_STATE}"),
    (0, b"7767517\n", f"ncnn's description of a network: {_STATE}"),
    (0, b"\x12\x01\0\0\0\0\0\0", f"a file of MXNet: {_STATE}"),
    (0, b"ftrt", f"a TensorRT engine: {_STATE}"),
    (0, b"ptrt", f"a TensorRT engine: {_STATE}"),
    (0, b"\x89png", "a PNG image: pass the weights here, and images to predict"),
    (0, b"\xff\xd8\xff", "a JPEG image: pass the weights here, and images to predict"),
)
"""Place, bytes in lower case, and meaning."""

_BY_NAME: tuple[tuple[str, str], ...] = (
    (
        r"saved_model\.pb|.*\.(pb|pbtxt)",
        "a TensorFlow graph: save the Keras model as .h5 or .keras, or convert it with tf2onnx",
    ),
    (
        r".*\.(index|meta)|.*\.data-\d+-of-\d+|checkpoint",
        "a part of a TensorFlow checkpoint: save the Keras model as .h5 or .keras",
    ),
    (r".*\.ml(model|package|modelc)", f"a Core ML model: {_STATE}"),
    (r".*\.caffemodel|.*\.prototxt", f"a file of Caffe: {_STATE}"),
    (r".*\.param", f"ncnn's description of a network: {_STATE}"),
    (r".*\.(engine|plan|trt)", f"a TensorRT engine: {_STATE}"),
    (r".*\.(msgpack|orbax)", f"a file of JAX: {_STATE}"),
    (r".*\.(csv|tsv|xlsx?)", f"a table: {_STATE}"),
    (
        r".*\.txt",
        "a text file: for a network in text files, pass the directory that holds all of them",
    ),
    (r".*\.ya?ml", "a description in YAML: pass the file of weights itself"),
    (r".*\.py", "a Python program: pass the file of weights itself"),
)
"""Patterns for whole names in lower case, and meaning."""

_XML = re.compile(rb"\s*<\?xml")
_OPENVINO = "OpenVINO's IR: export the network that it was made of to ONNX"
# Names of the first member of an archive that torch wrote before version 0.1.10.
_OLD_TORCH = frozenset({b"sys_info", b"pickle", b"storages", b"tensors"})


def meaning(path: str | os.PathLike[str], head: bytes | None = None) -> str | None:
    """Explain what a file is, with the remedy.

    Args:
        path: the file.
        head: its first `HEAD_BYTES`, if they have been read.

    Returns:
        Words that follow "this is"; None for a file that may hold weights.
    """
    if head is None:
        try:
            with open(path, "rb") as file:
                head = file.read(HEAD_BYTES)
        except OSError:
            return None
    lower = head.lower()
    text = lower.removeprefix(b"\xef\xbb\xbf").lstrip()
    for place, start, words in _BY_BYTES:
        if lower.startswith(start, place) or (start.startswith(b"<") and text.startswith(start)):
            return words
    if _XML.match(head):
        return _xml(text)
    if head[257:262] == b"ustar":
        return _tar(head)
    # A header of safetensors begins at the ninth byte, after its length.
    if text.startswith(b"{") and head[8:9] != b"{":
        return _json(text)
    return _by_name(path)


def _by_name(path: str | os.PathLike[str]) -> str | None:
    name = os.path.basename(os.fspath(path)).lower()
    for pattern, words in _BY_NAME:
        if re.fullmatch(pattern, name):
            return words
    stem, suffix = os.path.splitext(os.fspath(path))
    if suffix.lower() == ".bin":
        if os.path.exists(f"{stem}.xml"):
            return f"the numbers of {_OPENVINO}"
        if os.path.exists(f"{stem}.param"):
            return f"the numbers of a network of ncnn: {_STATE}"
    return None


def _xml(text: bytes) -> str:
    if b"<net" in text:
        return _OPENVINO
    if b"<error" in text or b"<html" in text:
        return f"a server's answer, not the file: {_AGAIN}"
    return "an XML file: pass the file of weights itself"


def _tar(head: bytes) -> str | None:
    name = head[:100].partition(b"\0")[0]
    if name.removeprefix(b"./").rstrip(b"/") in _OLD_TORCH or not name:
        return None  # torch's reader says so
    return f"a tar archive, of {name[:80].decode('utf-8', 'replace')!r} and more: {_UNPACK}"


def _json(text: bytes) -> str:
    if b'"weight_map"' in text:
        return "an index of shards: pass the directory with the shards"
    return "a JSON file: pass the file of weights, or the directory with its config.json"
