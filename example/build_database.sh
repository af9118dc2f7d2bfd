#!/usr/bin/env bash
# From ImageNet's archives and Open Images' tables to a database: vocabulary, labels, images, shards.
#
#     example/build_database.sh FOLDER
#
# FOLDER/sources holds imagenet/*.tar, imagenet_ids.txt, open_images/{images,annotations-human,annotations-machine,
# class-descriptions}.csv and chosen.tsv (see build_dictionary.py; it may be empty at first: review.tsv says what is to
# be chosen). The database comes to be in FOLDER/database. What is done is not done again, so the same command resumes.
# TRAIN_FLAGS are those of the network that finds co-occurring classes, SHARDS and VAL_SHARDS how many shards there are.
set -euo pipefail
folder=${1:?usage: example/build_database.sh FOLDER}
here=$(cd "$(dirname "$0")/.." && pwd)
: "${PYTHON:=python}" "${SHARDS:=1000}" "${VAL_SHARDS:=50}" "${VAL_SHARE:=0.005}" "${MIN_IMAGES:=650}"
: "${DOWNLOAD_FLAGS:=}" "${COOCCURRENCE_FLAGS:=}"
: "${TRAIN_FLAGS:=--flagfile=$here/example/ml_images.flags}"
: "${NETWORK_FLAGS:=}"
[[ $VAL_SHARE == *[1-9]* ]] || {
    echo "VAL_SHARE=$VAL_SHARE: a database needs images for validation, too; give a share above 0" >&2
    exit 1
}

step() { # step NAME SCRIPT FLAG…: runs a script once
    [ -e "$folder/.$1.done" ] && return
    echo "$1"
    "$PYTHON" "$here/$2" "${@:3}"
    touch "$folder/.$1.done"
}

sources=$folder/sources
open_images=(--open_images="$sources/open_images/images.csv"
    --annotations="$sources/open_images/annotations-human.csv,$sources/open_images/annotations-machine.csv")
dictionary=$folder/vocabulary/dictionary_and_semantic_hierarchy.txt
classes=(--dictionary="$dictionary" --decisions="$folder/vocabulary/decisions.tsv" --val_fraction="$VAL_SHARE")

step counts data_processing/build_image_list.py --imagenet="$sources/imagenet" "${open_images[@]}" \
    --output_dir="$folder/counts"
step vocabulary data_processing/build_dictionary.py --wnids="$sources/imagenet_ids.txt" \
    --class_descriptions="$sources/open_images/class-descriptions.csv" --label_synsets="$sources/chosen.tsv" \
    --image_counts="$folder/counts/counts.tsv" --min_images="$MIN_IMAGES" --output_dir="$folder/vocabulary"
class_num=$(($(wc -l < "$dictionary") - 1))

step imagenet_list data_processing/build_image_list.py --imagenet="$sources/imagenet" "${classes[@]}" \
    --output_dir="$folder/imagenet"
step open_images_list data_processing/build_image_list.py "${open_images[@]}" "${classes[@]}" \
    --output_dir="$folder/open_images"
for split in train val; do
    # shellcheck disable=SC2086
    step "download_$split" data_processing/download_images.py --image_list="$folder/open_images/$split.txt" \
        --output_dir="$folder/downloaded_$split" $DOWNLOAD_FLAGS
    # From here on all paths are relative to FOLDER.
    sed "s#^#downloaded_$split/#" "$folder/downloaded_$split/downloaded.txt" > "$folder/open_images/${split}_here.txt"
    sed "s#^#sources/imagenet/#" "$folder/imagenet/$split.txt" > "$folder/imagenet/${split}_here.txt"
    for source in imagenet open_images; do
        step "ancestors_${source}_$split" data_processing/augment_labels.py --dictionary="$dictionary" \
            --image_list="$folder/$source/${split}_here.txt" --output="$folder/$source/${split}_closed.txt"
    done
done

# A network that knows Open Images looks at ImageNet's images.
for source in open_images imagenet; do
    step "records_$source" data_processing/build_tfrecords.py --image_list="$folder/$source/train_closed.txt" \
        --images="$folder" --output_dir="$folder/$source/records" --num_shards="$SHARDS" --class_num="$class_num"
done
# shellcheck disable=SC2086
step train train.py --data_dir="$folder/open_images/records" --model_dir="$folder/open_images/model" \
    --log_dir="$folder/open_images/log" --class_num="$class_num" $TRAIN_FLAGS $NETWORK_FLAGS
# shellcheck disable=SC2086
step cooccurrence data_processing/cooccurrence.py --data_dir="$folder/imagenet/records" \
    --model_dir="$folder/open_images/model" --dictionary="$dictionary" --output_dir="$folder/cooccurrence" \
    $NETWORK_FLAGS $COOCCURRENCE_FLAGS

mkdir -p "$folder/database"
cp "$dictionary" "$folder/database/"
for split in train val; do
    cat "$folder/imagenet/${split}_here.txt" "$folder/open_images/${split}_here.txt" > "$folder/$split.txt"
    step "augment_$split" data_processing/augment_labels.py --image_list="$folder/$split.txt" \
        --dictionary="$dictionary" --pairs="$folder/cooccurrence/pairs.tsv" --output="$folder/${split}_augmented.txt"
    step "records_$split" data_processing/build_tfrecords.py --image_list="$folder/${split}_augmented.txt" \
        --images="$folder" --output_dir="$folder/database/$split" --split="$split" --class_num="$class_num" \
        --num_shards="$([ $split = train ] && echo "$SHARDS" || echo "$VAL_SHARDS")"
done
step statistics data_processing/statistics.py --dictionary="$dictionary" --output_dir="$folder/statistics" \
    --image_lists="$folder/train_augmented.txt,$folder/val_augmented.txt"
(cd "$folder/database" && sha256sum dictionary_and_semantic_hierarchy.txt ./*/*.tfrecords > .SHA256SUMS.part &&
    mv .SHA256SUMS.part SHA256SUMS)
echo "$folder/database is ready: train.py --data_dir=$folder/database --class_num=$class_num"
