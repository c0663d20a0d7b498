"""A small network, trained on the train part of scikit-learn's digits: what the pages of the documentation compress."""

import torch
from torch import nn

from tersenet.data import sources

EPOCHS = 8


def digits() -> nn.Module:
    """The trained network, with the example inputs that it is traced with."""
    torch.manual_seed(0)
    train = sources.load("digits").train
    images, labels = torch.from_numpy(train.arrays()[0]), torch.from_numpy(train.labels.copy())
    network = nn.Sequential(
        nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2)),
        nn.Sequential(nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2)),
        nn.Sequential(nn.Flatten(), nn.Linear(128, 10)),
    )
    optimizer = torch.optim.Adam(network.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.02, total_steps=EPOCHS)
    for _ in range(EPOCHS):
        for chosen in torch.randperm(len(images)).split(32):
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(images[chosen]), labels[chosen]).backward()
            optimizer.step()
        schedule.step()
    network.example_inputs = (images[:2],)
    return network.eval()
