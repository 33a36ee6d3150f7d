"""Calls for images and registries."""

from __future__ import annotations

import json

from .files import BodyFile
from .progress import checked

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import IO, Any

    from .transport import Params, Transport
    from .types import ImageSummary, Progress

IDLE_TIMEOUT = 600.0
"""Seconds without a byte."""
BUILD_TIMEOUT = 6 * 3600.0
"""Seconds without a line of a build: a RUN may be silent for long."""


class ImageCalls:
    """The part of Client that is about images and registries."""

    _http: Transport

    def list_images(self, *, all: bool = False) -> list[ImageSummary]:
        """The images that hyperd has."""
        found: list[ImageSummary] = self._http.request("GET", "/images/json", {"all": all}).json()
        return found

    def inspect_image(self, image: str, *, platform: str = "") -> dict[str, Any]:
        """Everything about an image. Raises NotFound, also when it is for another platform."""
        params: Params = {"imageName": image, "platform": platform or None}
        return dict(self._http.request("GET", "/image/json", params).json())

    def pull(
        self, image: str, *, registry_auth: str | None = None, platform: str = ""
    ) -> Iterator[Progress]:
        """Pull an image; yields its progress. `registry_auth` is the X-Registry-Auth header.

        `platform` is OS/ARCHITECTURE, "" for the host's.
        """
        headers = {"X-Registry-Auth": registry_auth} if registry_auth else {}
        response = self._http.request(
            "POST",
            "/image/create",
            {"imageName": image, "platform": platform or None},
            headers=headers,
            timeout=IDLE_TIMEOUT,
        )
        return checked(response.lines())

    def load(
        self, archive: IO[bytes], name: str = "", refs: Mapping[str, str] | None = None
    ) -> Iterator[Progress]:
        """Load images from an archive (docker save or OCI); yields its progress.

        Images of an OCI layout are called `name`:REF, or as `refs` has it for REF.
        """
        params: Params = {"name": name or None, "refs": json.dumps(dict(refs)) if refs else None}
        response = self._http.request(
            "POST", "/image/load", params, upload=archive, timeout=IDLE_TIMEOUT
        )
        return checked(response.lines())

    def remove_image(self, image: str, *, force: bool = False) -> list[dict[str, str]]:
        """Untag an image and delete what nothing uses; what was untagged and deleted."""
        params: Params = {"imageId": image, "force": force}
        answer = self._http.request("DELETE", "/image", params, timeout=120.0).json()
        removed = answer.get("imagesList", []) if isinstance(answer, dict) else answer
        return [dict(item) for item in removed or []]

    def login(self, server: str, username: str, password: str) -> str:
        """Check credentials at a registry ("" for docker.io). Raises AccessDenied."""
        body = {"username": username, "password": password, "serveraddress": server}
        answer = self._http.request("POST", "/auth", body=body, timeout=IDLE_TIMEOUT).json()
        return str(answer["Status"])

    def push(
        self, image: str, tag: str = "", *, registry_auth: str | None = None
    ) -> Iterator[Progress]:
        """Push an image to its registry; without a tag all of the repository.

        Yields its progress. `registry_auth` is the X-Registry-Auth header.
        """
        headers = {"X-Registry-Auth": registry_auth} if registry_auth else {}
        params: Params = {"remote": image, "tag": tag or None}
        return checked(
            self._http.request(
                "POST", "/image/push", params, headers=headers, timeout=IDLE_TIMEOUT
            ).lines()
        )

    def tag(self, image: str, name: str) -> None:
        """Give an image one more name. Raises NotFound."""
        params: Params = {"imageName": image, "repo": name}
        self._http.request("POST", "/image/tag", params).read()

    def save(
        self,
        images: Sequence[str],
        *,
        oci: bool = False,
        refs: Mapping[str, str] | None = None,
    ) -> BodyFile:
        """An archive of images as `docker save` writes it, or an OCI layout in a tar.

        `refs` are the reference names in a layout, by image. Raises NotFound.
        """
        params: Params = {
            "names": list(images),
            "format": "oci" if oci else None,
            "refs": json.dumps(dict(refs)) if refs else None,
        }
        return BodyFile(self._http.request("GET", "/images/save", params, timeout=IDLE_TIMEOUT))

    def commit(
        self,
        container: str,
        name: str = "",
        *,
        author: str = "",
        message: str = "",
        changes: Sequence[str] = (),
        pause: bool = True,
    ) -> str:
        """Make an image of a container's changes; its id.

        `changes` are instructions of a Dockerfile, such as `CMD ["x"]`. A running container
        is frozen meanwhile if `pause`.
        """
        params: Params = {
            "container": container,
            "repo": name or None,
            "author": author or None,
            "comment": message or None,
            "changes": list(changes),
            "pause": pause,
        }
        answer = self._http.request("POST", "/container/commit", params, timeout=IDLE_TIMEOUT)
        return str(answer.json()["Id"])

    def import_image(
        self,
        archive: IO[bytes],
        name: str = "",
        *,
        message: str = "",
        changes: Sequence[str] = (),
    ) -> str:
        """Make an image of a root file system, a tar archive; its id."""
        params: Params = {
            "fromSrc": "-",
            "repo": name or None,
            "message": message or None,
            "changes": list(changes),
        }
        response = self._http.request(
            "POST", "/image/create", params, upload=archive, timeout=IDLE_TIMEOUT
        )
        return [str(line["status"]) for line in checked(response.lines())][-1]

    def history(self, image: str) -> list[dict[str, Any]]:
        """How an image came about, in Docker's form, newest first. Raises NotFound."""
        answer = self._http.request("GET", "/image/history", {"imageName": image}).json()
        return [dict(item) for item in answer or []]

    def prune_images(self, filters: Mapping[str, Sequence[str]] | None = None) -> dict[str, Any]:
        """Remove nameless images that no container uses: `ImagesDeleted`, `SpaceReclaimed`.

        Filters are `dangling` (false: all that no container uses), `until`, `label`, `label!`.
        """
        params: Params = {"filters": json.dumps(filters or {})}
        answer = self._http.request("POST", "/images/prune", params, timeout=IDLE_TIMEOUT)
        return dict(answer.json())

    def disk_usage(self) -> dict[str, Any]:
        """What Images, Containers and Volumes take on disk, in bytes, in Docker's form."""
        return dict(self._http.request("GET", "/system/df", timeout=IDLE_TIMEOUT).json())

    def build(
        self,
        context: IO[bytes],
        *,
        tags: Sequence[str] = (),
        dockerfile: str = "",
        arguments: Mapping[str, str] | None = None,
        labels: Mapping[str, str] | None = None,
        target: str = "",
        cache: bool = True,
        pull: bool = False,
        memory: int = 0,
        platform: str = "",
        registry_config: str | None = None,
    ) -> Iterator[Progress]:
        """Build an image of a context, a tar archive; yields its progress in Docker's form.

        One line has `aux` with the image's ID. `memory` is what VMs of RUN have, in bytes,
        `platform` is OS/ARCHITECTURE, "" for the host's.
        `registry_config` is the X-Registry-Config header. Raises BadRequest with the
        Dockerfile's line, and ProgramError when a RUN fails.
        """
        headers = {"X-Registry-Config": registry_config} if registry_config else {}
        params: Params = {
            "name": list(tags),
            "dockerfile": dockerfile or None,
            "buildargs": json.dumps(dict(arguments)) if arguments else None,
            "labels": json.dumps(dict(labels)) if labels else None,
            "target": target or None,
            "nocache": not cache,
            "pull": pull,
            "memory": memory or None,
            "platform": platform or None,
        }
        response = self._http.request(
            "POST", "/image/build", params, upload=context, headers=headers, timeout=BUILD_TIMEOUT
        )
        return checked(response.lines())
