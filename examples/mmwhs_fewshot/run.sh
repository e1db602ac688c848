#!/usr/bin/env bash
# Table 1 of nnSAM's paper (arXiv 2309.16967v3) as a study: six methods, 4 to 20 training slices of MM-WHS CT.
#
#   examples/mmwhs_fewshot/run.sh SOURCE STUDY [further options of `nnsam fewshot run`]
#
# SOURCE  CFDnet's CT_withGT.zip (the slices that the paper used), or the folder of the official MM-WHS volumes with
#         ct_train_1001_image.nii.gz and so on. Neither may be passed on, so neither is downloaded here.
# STUDY   a new folder; the report comes to lie in STUDY/report
#
# Needed: pip install "nnsam[fewshot]", SAM's weights (`nnsam weights import`, or the network at the first training), a GPU.
# The script can be stopped at any point, in any way, and started again: nothing that is finished is repeated.
#
# To try it on a machine without a GPU and without SAM's weights, minutes instead of weeks (numbers without meaning):
#   NNSAM_WEIGHTS=random SIZES="4" SEEDS=1 VAL=8 TEST=8 METHODS="nnUNetTrainer nnSAMTrainer_sam256" \
#     examples/mmwhs_fewshot/run.sh SOURCE STUDY --device cpu --epochs 1 --iterations 10
set -euo pipefail
if [ $# -lt 2 ]; then
  sed -n '2,16p' "$0" >&2
  exit 2
fi
source_data=$1 study=$2
shift 2

# The paper: 212 slices, of which up to 20 for training, 80 for validation and 112 for testing. It does not say which of
# CFDnet's 320 slices, nor that patients were kept apart, nor does it repeat trainings. Here: patients are kept apart
# (SPLIT=slice is the paper's way and flatters all methods), and every size is trained with five draws of its cases.
sizes=${SIZES:-4 8 12 16 20} seeds=${SEEDS:-5} val=${VAL:-80} test=${TEST:-112} split=${SPLIT:-patient}

# The paper's methods, in its order. unet, swinunet, transunet and autosam are networks of well-kept libraries, not the
# paper's own; the report says how they differ. nnSAM's controls tell where a gain comes from: add
# nnSAMNoLevelSetTrainer (no level sets), nnSAMLevelSetOnlyTrainer (no SAM), nnSAMRandomEncoderTrainer (no knowledge in
# SAM's place), nnSAMLegacyTrainer (the network of the paper's code).
methods=${METHODS:-unet swinunet transunet autosam nnUNetTrainer nnSAMTrainer}

# 1. The data set: 5 classes (LV, RV, LA, RA, Myo). CFDnet's slices are 240 x 220 as they are; slices of the official
#    volumes are made so, axial ones, which are not CFDnet's long-axis view.
if [ ! -d "$study/raw/Dataset101_Hearts" ]; then
  mkdir -p "$study/raw"
  if [ -f "$source_data" ]; then
    nnsam convert mmwhs "$source_data" -o "$study/raw/Dataset101_Hearts"
  else
    nnsam convert mmwhs "$source_data" -o "$study/raw/Dataset101_Hearts" --size 240x220
  fi
fi

# 2. Who is trained, validated and tested on. The official volumes give 16 slices of each of 20 patients.
# shellcheck disable=SC2086 # lists of words
nnsam fewshot prepare -d "$study/raw/Dataset101_Hearts" -o "$study/study" --sizes $sizes --seeds "$seeds" \
  --val "$val" --test "$test" --split "$split"

# 3. Trainings, predictions, scores: 6 methods x 5 sizes x 5 seeds with nnU-Net's budget of 250,000 steps each. On one
#    GPU that is weeks; --executor slurm or ray spreads it, --epochs 100 shortens it for all methods alike.
# shellcheck disable=SC2086
nnsam fewshot run "$study/study" --methods $methods "$@"

# 4. Tables as the paper's, intervals, tests, learning curves, overlays: STUDY/report. --profile legacy scores as the
#    paper's code does, which counts a structure that was missed altogether as a surface distance of 0.
nnsam fewshot report "$study/study" -o "$study/report"
