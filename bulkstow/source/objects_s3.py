"""Buckets of S3, and of MinIO, Ceph and others with its interface: listed by botocore, read by obstore.

botocore finds endpoint, region and login as the tools of AWS do, so also those of a profile, lists every key as it is,
and tells the storage classes.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Protocol

import botocore.exceptions
import botocore.session
import urllib3
from botocore import UNSIGNED
from botocore.config import Config
from obstore.store import S3Store

from bulkstow.errors import ConfigurationError
from bulkstow.source.objects_bucket import (
    CONNECT_TIMEOUT_S,
    READ_TIMEOUT_S,
    REPLACED,
    Bucket,
    ListedObject,
    ObjectError,
    StoreOptions,
    Unlisted,
    cannot_list,
    version_of,
)
from bulkstow.wire.object_store import ObjectsName, StoreError, unaddressable

if TYPE_CHECKING:  # obstore has this type for checkers only
    from obstore.store import S3Credential

LOGIN_S = 300.0
"""Time for which obstore uses a login before it requests it again; botocore renews it some 15 min before its end."""

_AWS_HOSTS = (".amazonaws.com", ".amazonaws.com.cn")


class S3Bucket(Bucket):
    """A bucket; raises ConfigurationError for a login, a profile or an endpoint that cannot be used."""

    def __init__(self, name: ObjectsName, options: StoreOptions) -> None:
        self._bucket = name.bucket
        try:
            self._client, login = _client(options)
        except botocore.exceptions.BotoCoreError as error:
            raise ConfigurationError(f"{name.root}: {error}") from None
        if login is None and not options.is_anonymous:
            raise ConfigurationError(
                f"{name.root}: no login was found in AWS_ACCESS_KEY_ID, a profile or the machine's role; for a public "
                "bucket, --source-anonymous"
            )
        endpoint = str(self._client.meta.endpoint_url)
        given: dict[str, Any] = {"region": options.region or self._client.meta.region_name or "us-east-1"}
        if not endpoint.endswith(_AWS_HOSTS):
            given["endpoint"] = endpoint
        elif options.region is None:
            given["region"] = self._region() or given["region"]
        if login is None:
            given["skip_signature"] = True
        else:
            given["credential_provider"] = login
        store = S3Store(name.bucket, client_options=options.client, retry_config=options.retries, **given)
        super().__init__(name.root, store)

    def _region(self) -> str:
        """Return the region of the bucket, which AWS tells with every answer; empty if there is none."""
        try:
            answer = self._client.head_bucket(Bucket=self._bucket)
        except botocore.exceptions.ClientError as error:
            answer = error.response
        except botocore.exceptions.BotoCoreError:
            return ""
        return str(answer["ResponseMetadata"].get("HTTPHeaders", {}).get("x-amz-bucket-region", ""))

    def check(self, directory: str) -> None:
        """Ask for a first key."""
        try:
            self._client.list_objects_v2(Bucket=self._bucket, Prefix=directory, MaxKeys=1)
        except _ERRORS as error:
            raise cannot_list(self.root, _store_error(error), is_start=True) from None

    def pages(self, directory: str) -> Iterator[list[ListedObject | Unlisted]]:
        """Yield the pages of the listing, each of up to 1,000 keys."""
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=directory)
        try:
            for page in pages:
                yield [_listed(found) for found in page.get("Contents", ())]
        except _ERRORS as error:
            raise cannot_list(self.root, _store_error(error)) from None

    def read(self, expected: ListedObject, begin: int, end: int) -> memoryview:
        """Return a part of an object; botocore asks for a key that obstore cannot address."""
        if not unaddressable(expected.key):
            return super().read(expected, begin, end)
        condition = {"IfMatch": expected.etag} if expected.etag is not None else {}
        try:
            answer = self._client.get_object(
                Bucket=self._bucket, Key=expected.key, Range=f"bytes={begin}-{end - 1}", **condition
            )
            data = memoryview(answer["Body"].read())
        except _ERRORS as error:
            raise ObjectError.of(_store_error(error)) from None
        if len(data) != end - begin:
            raise ObjectError(REPLACED)
        return data

    def find(self, key: str) -> ListedObject | None:
        """Return the object with a key, which is the first one that begins with it. Raises ObjectError."""
        try:
            page = self._client.list_objects_v2(Bucket=self._bucket, Prefix=key, MaxKeys=1)
        except _ERRORS as error:
            raise ObjectError.of(_store_error(error)) from None
        found = [_listed(entry) for entry in page.get("Contents", ())]
        return found[0] if found and found[0].key == key else None


_ERRORS = (botocore.exceptions.ClientError, botocore.exceptions.BotoCoreError)


class _Keys(Protocol):
    """The keys of a login, at one moment."""

    access_key: str
    secret_key: str
    token: str | None


class _Credentials(Protocol):
    """The login that botocore has found."""

    def get_frozen_credentials(self) -> _Keys:
        """Return its keys, renewed if they are about to expire."""


class _Client(Protocol):
    """The part of botocore's client for S3 that this module uses."""

    meta: Any

    def head_bucket(self, **fields: str) -> dict[str, Any]:
        """Ask for a bucket."""

    def list_objects_v2(self, **fields: str | int) -> dict[str, Any]:
        """Ask for a page of keys."""

    def get_object(self, **fields: str) -> dict[str, Any]:
        """Ask for a part of an object."""

    def get_paginator(self, operation: str) -> Any:  # noqa: ANN401 - botocore has no types
        """Return an object that yields page after page."""


class _Login:
    """Gives obstore the login that botocore has found; botocore renews it."""

    def __init__(self, credentials: _Credentials) -> None:
        self._credentials = credentials

    def __call__(self) -> S3Credential:
        """Return the keys of the moment."""
        now = self._credentials.get_frozen_credentials()
        return {
            "access_key_id": now.access_key,
            "secret_access_key": now.secret_key,
            "token": now.token,
            "expires_at": datetime.now(UTC) + timedelta(seconds=LOGIN_S),
        }


def _client(options: StoreOptions) -> tuple[_Client, _Login | None]:
    """Return a client and its login; raises the errors of botocore."""
    session = botocore.session.get_session()
    credentials = None if options.is_anonymous else session.get_credentials()
    config = Config(
        connect_timeout=CONNECT_TIMEOUT_S,
        read_timeout=READ_TIMEOUT_S,
        retries={"mode": "standard", "max_attempts": options.attempts},
        signature_version=UNSIGNED if options.is_anonymous else None,
        s3=None if options.endpoint is None else {"addressing_style": "path"},
    )
    if options.is_insecure:
        urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)  # one for each request otherwise
    verify = False if options.is_insecure else options.ca_file and str(options.ca_file)
    client = session.create_client(
        "s3", region_name=options.region, endpoint_url=options.endpoint, verify=verify, config=config
    )
    return client, None if credentials is None else _Login(credentials)


def _listed(found: dict[str, Any]) -> ListedObject:
    version = version_of(found.get("ETag"), found["LastModified"])
    return ListedObject(found["Key"], found["Size"], version, found.get("StorageClass", ""))


def _store_error(error: Exception) -> StoreError:
    """Return the facts of an error of botocore; the text of a transport error has the address of the request."""
    if isinstance(error, botocore.exceptions.ClientError):
        answer = error.response
        fields = answer.get("Error", {})
        status = answer["ResponseMetadata"]["HTTPStatusCode"]
        return StoreError.of(status, str(fields.get("Code", "")), str(fields.get("Message", "")))
    if isinstance(error, botocore.exceptions.NoCredentialsError):
        return StoreError.of(401, "", "no login was found")
    if isinstance(error, botocore.exceptions.EndpointConnectionError):
        return StoreError.of(None, "", "no connection")
    return StoreError.of(None, "", str(error))
