#!/bin/sh
# W3: VGG16's fully connected layers as features, a new last layer, then the top blocks too.
#
#   scripts/workflows/w3_classic_vgg16.sh IMAGES [OUT]
#
# IMAGES has train/ and validation/, each with a folder a class.
# EXTRACT: more options of `extract`, such as --weights vgg16_weights_tf_dim_ordering_tf_kernels.h5
# BACKBONE (vgg16; a network's name), LAYER (fc2: the features that go on to fine-tuning), OTHER (fc1:
# out of the same pass, with a head of its own to compare; empty: none), SIZE (224), BATCH (64),
# UNFREEZE (block5_conv1: the first layer that trains), TUNE_EPOCHS (5; 0: no fine-tuning).
set -eu
images=$1 out=${2:-w3} backbone=${BACKBONE:-vgg16} layer=${LAYER:-fc2} other=${OTHER-fc1}
export FEATCACHE_DIR="${FEATCACHE_DIR:-$out/cache}"
set -x

featcache extract "$images" --name w3 --backbone "$backbone" --layer "$layer" \
    ${other:+--layer "$other"} --size "${SIZE:-224}" ${EXTRACT:-}
[ -z "$other" ] ||
    featcache fit-head "w3/$backbone/$other" --head dense --batch-size "${BATCH:-64}" \
        --out "$out/w3-other.head"
featcache fit-head "w3/$backbone/$layer" --head dense --batch-size "${BATCH:-64}" \
    --out "$out/w3.head" --plots "$out/head"
[ "${TUNE_EPOCHS:-5}" = 0 ] ||
    featcache finetune "$images" --name w3 --head "$out/w3.head" \
        --unfreeze-from "${UNFREEZE:-block5_conv1}" --optimizer rmsprop --learning-rate 1e-5 \
        --epochs "${TUNE_EPOCHS:-5}" --batch-size "${BATCH:-64}" --out "$out/tuned" --plots "$out/tuned-plots"
