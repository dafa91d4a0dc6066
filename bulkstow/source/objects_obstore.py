"""Buckets of Google Cloud Storage and Azure: listed and read by obstore, which has one interface for both.

obstore cannot address some keys, and fails to list a page of keys with one of them: such a directory of a bucket is an
outcome of its own.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, cast

import obstore
from obstore.exceptions import InvalidPathError
from obstore.store import AzureStore, GCSStore

from bulkstow.errors import ConfigurationError
from bulkstow.source.objects_bucket import (
    PAGE_LENGTH,
    STORE_ERRORS,
    Bucket,
    ListedObject,
    StoreOptions,
    Unlisted,
    cannot_list,
    listed,
)
from bulkstow.wire.object_store import StoreError, unaddressable

if TYPE_CHECKING:  # obstore has these types for checkers only
    from obstore.store import AzureConfig, GCSConfig

NOT_LISTED = (
    "cannot be listed: it has a key with an empty part between slashes, '.', '..' or a control character, which only "
    "works with S3; nothing in it was found"
)


class ListedByObstore(Bucket):
    """A bucket of Google Cloud Storage or Azure."""

    def check(self, directory: str) -> None:
        """Ask for a first page."""
        if directory and (reason := unaddressable(directory.removesuffix("/"))):
            raise ConfigurationError(f"{self.root}/{directory}: {reason}, which only works with S3")
        try:
            next(iter(obstore.list(self.store, directory or None, chunk_size=1)), None)
        except InvalidPathError:
            return
        except STORE_ERRORS as error:
            raise cannot_list(self.root, StoreError.parse(str(error)), is_start=True) from None

    def pages(self, directory: str) -> Iterator[list[ListedObject | Unlisted]]:
        """Yield pages; after a key that obstore cannot address, yield those of one directory after the other."""
        last = ""
        try:
            for page in obstore.list(self.store, directory or None, chunk_size=PAGE_LENGTH):
                objects = [listed(meta) for meta in page]
                last = objects[-1].key
                # obstore leaves out the slash at the end of a directory's marker; then it looks like an object.
                with_content = {found.key for found in objects if found.size_bytes}
                yield [found for found in objects if found.size_bytes or found.key not in with_content]
        except InvalidPathError:
            yield from self._by_directory(directory, last)
        except STORE_ERRORS as error:
            raise cannot_list(self.root, StoreError.parse(str(error))) from None

    def _by_directory(self, directory: str, after: str) -> Iterator[list[ListedObject | Unlisted]]:
        """Yield the objects below a directory whose keys come after one that was listed before."""
        try:
            result = obstore.list_with_delimiter(self.store, directory or None)
        except InvalidPathError:
            yield [Unlisted(directory, NOT_LISTED)]
            return
        except STORE_ERRORS as error:
            raise cannot_list(self.root, StoreError.parse(str(error))) from None
        if objects := [found for found in map(listed, result["objects"]) if found.key > after]:
            yield [*objects]
        for below in result["common_prefixes"]:
            yield from self._by_directory(f"{below}/", after)


def google_bucket(bucket: str, options: StoreOptions) -> Bucket:
    """Return a bucket of Google Cloud Storage. Raises ConfigurationError."""
    found: GCSConfig = {}
    if options.endpoint is not None:
        found["base_url"] = options.endpoint
    if options.is_anonymous:
        found["skip_signature"] = True
    try:
        store = GCSStore(bucket, config=found, client_options=options.client, retry_config=options.retries)
    except STORE_ERRORS as error:
        raise ConfigurationError(f"gs://{bucket}: {StoreError.parse(str(error))}") from None
    return ListedByObstore(f"gs://{bucket}", store)


_VARIABLES = {
    "AZURE_STORAGE_ACCOUNT": "account_name",
    "AZURE_STORAGE_KEY": "account_key",
}
"""Variables of Azure's own tools that obstore does not read."""

_CONNECTION_STRING = {
    "AccountName": "account_name",
    "AccountKey": "account_key",
    "SharedAccessSignature": "sas_key",
    "BlobEndpoint": "endpoint",
}


def azure_container(container: str, options: StoreOptions) -> Bucket:
    """Return a container of Azure. Raises ConfigurationError."""
    found = azure_configuration(os.environ)
    if options.endpoint is not None:
        found["endpoint"] = options.endpoint
    if options.is_anonymous:
        found["skip_signature"] = True
    try:
        store = AzureStore(container, config=found, client_options=options.client, retry_config=options.retries)
    except STORE_ERRORS as error:
        raise ConfigurationError(
            f"az://{container}: {StoreError.parse(str(error))}; the account is that of AZURE_STORAGE_ACCOUNT or of "
            "AZURE_STORAGE_CONNECTION_STRING"
        ) from None
    return ListedByObstore(f"az://{container}", store)


def azure_configuration(environment: Mapping[str, str]) -> AzureConfig:
    """Return the account and the login of variables of Azure's own tools that obstore does not read."""
    string = environment.get("AZURE_STORAGE_CONNECTION_STRING", "")
    fields = dict(field.partition("=")[::2] for field in string.split(";") if "=" in field)
    found = {_CONNECTION_STRING[name]: value for name, value in fields.items() if name in _CONNECTION_STRING}
    found |= {key: environment[name] for name, key in _VARIABLES.items() if environment.get(name)}
    return cast("AzureConfig", found)
