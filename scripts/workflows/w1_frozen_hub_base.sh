#!/bin/sh
# W1: a frozen base from a hub, augmented training images, and one Dense layer on its vectors.
#
#   scripts/workflows/w1_frozen_hub_base.sh IMAGES [OUT]
#
# IMAGES has train/ and validation/, each with a folder a class, such as
#   featcache dataset cats_and_dogs IMAGES
# BACKBONE: a network's name (mobilenetv2), or the folder of a TF-Hub SavedModel, then with
#   EXTRACT="--trust-model". EXTRACT: more options of `extract`, such as --weights PATH.
# SIZE (224), VIEWS (6 beside the plain image: an epoch draws one of these 7 rows of each image, at
# random, so it may draw one twice), BASELINE_EPOCHS (15; 0: no CNN from scratch).
set -eu
images=$1 out=${2:-w1}
export FEATCACHE_DIR="${FEATCACHE_DIR:-$out/cache}"
set -x

featcache extract "$images" --name w1 --backbone "${BACKBONE:-mobilenetv2}" --size "${SIZE:-224}" \
    --augment classic --views "${VIEWS:-6}" ${EXTRACT:-}
featcache fit-head w1 --head dense --optimizer adam --epochs 6 --batch-size 100 \
    --out "$out/w1.head" --plots "$out/head"
[ "${BASELINE_EPOCHS:-15}" = 0 ] ||
    featcache baseline "$images" --size 150 --epochs "${BASELINE_EPOCHS:-15}" --augment classic \
        --plots "$out/baseline"
