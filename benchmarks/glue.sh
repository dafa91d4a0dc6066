#!/bin/sh
# The way of a shell script: glue every file below a directory into one body, then let curl send it.
# Usage: glue.sh DIRECTORY URL BODY
set -eu
boundary=bulkstow-glue-4f1c9ab6d27e83505c1e
find "$1" -type f -name '*.dcm' | {
    while IFS= read -r file; do
        printf -- '--%s\r\nContent-Type: application/dicom\r\n\r\n' "$boundary"
        cat "$file"
        printf '\r\n'
    done
    printf -- '--%s--\r\n' "$boundary"
} > "$3"
curl --silent --show-error --fail --output "$3.answer" --header 'Expect:' \
    --header "Content-Type: multipart/related; type=\"application/dicom\"; boundary=$boundary" \
    --header 'Accept: application/dicom+json' --data-binary "@$3" "$2/studies"
