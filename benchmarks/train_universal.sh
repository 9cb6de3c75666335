#!/usr/bin/env bash
# Train and score the universal refiner in one call, from the source tree alone.
#
#   benchmarks/train_universal.sh DATA OUT [MINUTES] [OPTION...]
#
# DATA is a collection, best packed (python -m napari_hidiff.training.universal.pack), which also
# brings its superpixels. OUT gets model-export.safetensors (for inference), model.safetensors in
# parts (cat model.safetensors.part-* joins them; training can go on from it), report.json (Dice of
# the held-out sets after every stroke) and log.txt. MINUTES (7.5) of training; reading, scoring and
# writing come on top. Further options go to napari-hidiff-train.
# HOLD_OUT names the sets that are left out of training and scored; SIZE is a size of the recipe.
set -euo pipefail
data=$(realpath "$1")
mkdir -p "$2"
out=$(realpath "$2")
minutes=${3:-7.5}
shift $(($# < 3 ? $# : 3))
root=$(realpath "$(dirname "$0")/..")
python=${PYTHON:-python3}

work=$(mktemp -d)
keep() {  # whatever there is, also when the run ends early
    cp "$work"/run/model-export.safetensors "$work"/run/report.json "$out/" || true
    [ ! -f "$work/run/model.safetensors" ] ||
        split -b 15M "$work/run/model.safetensors" "$out/model.safetensors.part-"
    rm -rf "$work"
}
trap keep EXIT
mkdir -p "$work/site/napari_hidiff"
ln -s "$root"/napari_hidiff/* "$work/site/napari_hidiff/"
ln -s "$root/training" "$work/site/napari_hidiff/training"
export PYTHONPATH="$work/site" PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
export TORCHDYNAMO_SUPPRESS_ERRORS=1  # what cannot be compiled runs as it is
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}

held=${HOLD_OUT-kvasir_polyp,liver_mass_us,rings_prostate_glands,kromp_nuclei_fluo,hvsmr2_heart_mr,chasedb1_2raters}
cache=$data
[ -d "$data/superpixels" ] || cache=$work
cd "$work"
"$python" -m napari_hidiff.training --dataset collection --data "$data" --size "${SIZE:-paper}" \
    --hold-out "$held" --minutes "$minutes" --output "$work/run" --cache "$cache" "$@" \
    2>&1 | tee "$out/log.txt"

cat "$work/run/report.json"
