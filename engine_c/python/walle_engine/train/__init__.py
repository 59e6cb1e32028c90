"""Training: a model, a loss and an optimiser make one program that is run once per step.

::

    from walle_engine import train

    trainer = train.Trainer("digits.wmodel", train.CrossEntropy(), train.Adam(1e-3), trainable=["fc.*"])
    for images, labels in batches:
        loss = trainer.step({"image": images, "target": labels})
    trainer.save("tuned.wmodel")  # a model like any other, which training can go on from

::

  model graph ─► weights become inputs ─► loss ─► Gradient ─► clipping ─► update of each parameter
                          ▲                                                          │
                          └──────────────────── the next step's ◄────────────────────┘

It needs no NumPy: batches may be any buffers.
"""

from walle_engine.train.codes import Codes, WeightCodes
from walle_engine.train.losses import BinaryCrossEntropy, CrossEntropy, Loss, MeanSquaredError, OwnLoss
from walle_engine.train.optimizers import SGD, Adam, AdamW, Optimizer
from walle_engine.train.schedules import Schedule, cosine, step_decay, warm_up
from walle_engine.train.trainer import Trainer

__all__ = [
    "SGD",
    "Adam",
    "AdamW",
    "BinaryCrossEntropy",
    "Codes",
    "CrossEntropy",
    "Loss",
    "MeanSquaredError",
    "Optimizer",
    "OwnLoss",
    "Schedule",
    "Trainer",
    "WeightCodes",
    "cosine",
    "step_decay",
    "warm_up",
]
