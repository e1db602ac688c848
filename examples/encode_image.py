"""Encodes an image with MobileSAM's encoder.

With SAM's weights:   python encode_image.py image.png --weights mobile_sam.pt
Without any file:     python encode_image.py
"""

import argparse

import torch
from skimage.io import imread

from nnsam.datasets.phantom import make_phantom
from nnsam.networks import MobileSAMEncoder, SAMInput

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("image", nargs="?", help="gray or RGB image; default: a synthetic heart")
parser.add_argument("--weights", help="MobileSAM checkpoint; default: random weights")
parser.add_argument("--size", type=int, default=1024, help="side of the encoder's input, a multiple of 32")
args = parser.parse_args()

image = imread(args.image) if args.image else make_phantom(seed=0)[0]
# (H, W) or (H, W, C) -> (1, C, H, W); any intensity scale will do.
patch = torch.from_numpy(image).float().reshape(*image.shape[:2], -1).permute(2, 0, 1)[None]
encoder = MobileSAMEncoder.from_checkpoint(args.weights) if args.weights else MobileSAMEncoder.random(seed=0)

with torch.no_grad():
    embedding = encoder(SAMInput(args.size)(patch))

print(
    f"image {tuple(image.shape)} -> embedding {tuple(embedding.shape)}, {'SAM' if args.weights else 'random'} weights"
)
print(f"mean {embedding.mean():.4f}, standard deviation {embedding.std():.4f}")
