"""What things and kinds of damage look like to a tower whose last block is done: directions for words.py.

    python names.py --tower state.safetensors --photos labels.csv --rows rows.pt --out names.pt

labels.csv has two columns, label and path. Kinds are the species of the labelled sets, by their masks.
"""

import argparse
import csv
import random

import torch
import torch.nn.functional as F

import views
from memory import read, tower
from state import Data, Last

SAME = {"bad": None, "good": None, "defect": None, "scratches": "scratch"}


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("--tower", required=True)
    p.add_argument("--photos", required=True)
    p.add_argument("--rows", action="append", required=True)
    p.add_argument("--out", required=True)
    p.add_argument("--each", type=int, default=12, help="photos of a label")
    a = p.parse_args()
    net = tower(a.tower)
    by = {}
    with open(a.photos) as f:
        for label, path in csv.reader(f):
            by.setdefault(label, []).append(path)
    means, count = {}, 0
    with torch.no_grad():
        for label, paths in sorted(by.items()):
            random.Random(2).shuffle(paths)
            x = torch.stack([read(q, 224) for q in paths[: a.each]])
            image = F.normalize(net(views.normalised(x))[1], dim=-1)
            means[label], count = image.mean(0), count + len(x)
        last = Last(net).eval()
        data = Data(a.rows)
        species = [k.split("/")[1] for q in a.rows for k in torch.load(q)["kind"]]
        kinds, total = {}, []
        for kind in sorted(set(species)):
            word = SAME.get(kind, kind)
            index = torch.tensor([i for i, s in enumerate(species) if s == kind])[:40]
            if word is None or not len(index):
                continue
            patches = F.normalize(last(data.rows[index].float())[0], dim=-1)
            cover = data.cover[index].float() > 0.3
            if cover.sum() > 20:
                kinds[word.replace("_", " ")] = patches[cover].mean(0)
                total.append(patches.mean((0, 1)))
    middle = torch.stack(list(means.values())).mean(0)
    ground = torch.stack(total).mean(0)
    torch.save(
        {
            "things": {k: F.normalize(v - middle, dim=-1) for k, v in means.items()},
            "kinds": {k: F.normalize(v - ground, dim=-1) for k, v in kinds.items()},
        },
        a.out,
    )
    print(count, "photos of", len(means), "things;", len(kinds), "kinds:", ", ".join(kinds))


if __name__ == "__main__":
    main()
