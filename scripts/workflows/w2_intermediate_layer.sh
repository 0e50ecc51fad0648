#!/bin/sh
# W2: a network cut at a middle layer, its whole map flattened, and a wide head on it.
#
#   scripts/workflows/w2_intermediate_layer.sh IMAGES [OUT]
#
# IMAGES has train/ and validation/ (or test/), such as featcache dataset fashion_mnist IMAGES.
# EXTRACT: more options of `extract`, such as --weights PATH (a local file without the top).
# BACKBONE (inceptionv3), LAYER (mixed7; at 150 pixels 7x7x768 = 37,632 numbers, float16: 75 kB an
# image), SIZE (150), VIEWS (1), BASELINE_EPOCHS (15; 0: no CNN from scratch).
set -eu
images=$1 out=${2:-w2}
export FEATCACHE_DIR="${FEATCACHE_DIR:-$out/cache}"
set -x

featcache extract "$images" --name w2 --backbone "${BACKBONE:-inceptionv3}" \
    --layer "${LAYER:-mixed7}:none" --size "${SIZE:-150}" --dtype float16 \
    --augment classic --views "${VIEWS:-1}" ${EXTRACT:-}
featcache fit-head w2 --head dense --hidden 1024 --dropout 0.2 --optimizer rmsprop \
    --learning-rate 1e-4 --epochs 10 --steps-per-epoch 100 --batch-size 100 --stop-at 0.99 \
    --out "$out/w2.head" --plots "$out/head"
[ "${BASELINE_EPOCHS:-15}" = 0 ] ||
    featcache baseline "$images" --size 150 --epochs "${BASELINE_EPOCHS:-15}" --augment classic \
        --plots "$out/baseline"
