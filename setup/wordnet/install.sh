#!/usr/bin/env bash
# Puts WordNet 3.0 where NLTK looks for it, .venv/nltk_data: by NLTK's downloader, or else from Debian's wordnet-base.
# Nothing is done where it is there already.
set -euo pipefail
venv=$1
here=$(cd "$(dirname "$0")/../.." && pwd)

is_there() {
    PYTHONPATH=$here "$venv/bin/python" -c "from data_processing.lists import wordnet; wordnet.load()" 2> /dev/null
}

is_there && exit
timeout 300 "$venv/bin/python" -m nltk.downloader -q -d "$venv/nltk_data" wordnet > /dev/null 2>&1 || true
is_there && exit
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
(
    cd "$folder"
    # The list of packages may not be there yet; making it takes root.
    apt-get -qq download wordnet-base || { apt-get -qq update && apt-get -qq download wordnet-base; }
    dpkg -x wordnet-base_*.deb .
) || true
mkdir -p "$venv/nltk_data/corpora"
cp -r "$folder/usr/share/wordnet" "$venv/nltk_data/corpora/" || true
is_there || { echo "WordNet 3.0 could not be fetched: python -m nltk.downloader wordnet, or apt-get install wordnet-base" >&2; exit 1; }
