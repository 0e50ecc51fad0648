#!/bin/sh
# W5: a few hundred images: the last map flattened and a small head; and which cut is the best.
#
#   scripts/workflows/w5_tiny_data_set.sh IMAGES [OUT]
#
# IMAGES has train/, validation/ and test/, each with a folder a class.
# EXTRACT: more options of `extract`, such as --weights PATH. BACKBONE (vgg16; a network's name),
# LAYER (block5_pool: 7x7x512 at 224 pixels), SIZE (224), CUTS (layers to compare, pooled).
set -eu
images=$1 out=${2:-w5} backbone=${BACKBONE:-vgg16}
cuts=${CUTS:-block2_pool block3_pool block4_pool block5_pool}
export FEATCACHE_DIR="${FEATCACHE_DIR:-$out/cache}"
set -x

featcache backbones
featcache backbones --search "$backbone" --measure
featcache extract "$images" --name w5 --backbone "$backbone" --layer "${LAYER:-block5_pool}:none" \
    --size "${SIZE:-224}" ${EXTRACT:-}
featcache fit-head w5 --head dense --hidden 64 --batch-norm --dropout 0.5 --optimizer adam \
    --learning-rate 1e-4 --epochs 20 --batch-size 30 --out "$out/w5.head" --plots "$out/head"
# Several layers come out of one pass, and a cheap head on each says where to cut.
featcache extract "$images" --name w5-cuts --backbone "$backbone" --size "${SIZE:-224}" \
    $(printf -- '--layer %s ' $cuts) ${EXTRACT:-}
featcache sweep $(printf "w5-cuts/$backbone/%s " $cuts) --heads logreg --C 0.001,0.01,0.1 \
    --out "$out/cut.head" --plots "$out/cuts"
