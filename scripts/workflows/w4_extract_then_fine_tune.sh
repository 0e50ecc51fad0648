#!/bin/sh
# W4: pooled features and one sigmoid, then the network from layer 100 on, the epochs continued.
#
#   scripts/workflows/w4_extract_then_fine_tune.sh IMAGES [OUT]
#
# IMAGES has train/ and validation/ with a folder for each of two classes, such as
#   featcache dataset cats_and_dogs IMAGES
# A fifth of the validation images becomes the test split.
# EXTRACT: more options of `extract`, such as --weights PATH. BACKBONE (mobilenetv2), SIZE (160),
# VIEWS (10 beside the plain image: an epoch draws one of these 11 rows of each image, at random),
# HEAD (--binary-sigmoid; empty for more than two classes), UNFREEZE (100), TUNE_EPOCHS (10 after
# the head's 10; 0: no fine-tuning).
# PHOTO (one image that an ImageNet classifier names; the first of IMAGES), CLASSIFIER (that
# network, with its top: BACKBONE; efficientnet_lite0 needs no download; 0: none), CLASSIFY: more
# options of `classify`, such as --weights PATH (EXTRACT's are of the network without its top).
set -eu
images=$1 out=${2:-w4}
export FEATCACHE_DIR="${FEATCACHE_DIR:-$out/cache}"
first=$(find "$images" -iname '*.jpg' -o -iname '*.jpeg' -o -iname '*.png' | sort | head -n 1)
if [ -z "$first" ]; then
    echo "$images: no image in it whose name ends in .jpg, .jpeg or .png" >&2
    exit 2
fi
classifier=${CLASSIFIER:-${BACKBONE:-mobilenetv2}}
mkdir -p "$out"
set -x

[ "$classifier" = 0 ] ||
    featcache classify "${PHOTO:-$first}" --backbone "$classifier" --top 3 ${CLASSIFY:-}
# The plain image and nine views of it.
featcache views "$first" --augment flip-rotate --size "${SIZE:-160}" --count 10 \
    --out "$out/views.png"
featcache extract "$images" --name w4 --backbone "${BACKBONE:-mobilenetv2}" --size "${SIZE:-160}" \
    --test-from validation:0.2 --augment flip-rotate --views "${VIEWS:-10}" ${EXTRACT:-}
featcache fit-head w4 --head dense --dropout 0.2 ${HEAD---binary-sigmoid} --optimizer adam \
    --learning-rate 1e-4 --epochs 10 --batch-size 32 --out "$out/w4.head" --plots "$out/head"
[ "${TUNE_EPOCHS:-10}" = 0 ] ||
    featcache finetune "$images" --name w4 --head "$out/w4.head" --unfreeze-from "${UNFREEZE:-100}" \
        --test-from validation:0.2 --augment flip-rotate --optimizer rmsprop --learning-rate 1e-5 \
        --epochs "${TUNE_EPOCHS:-10}" --batch-size 32 --out "$out/tuned" --plots "$out/tuned-plots"
