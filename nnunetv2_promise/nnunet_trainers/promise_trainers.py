"""What nnU-Net finds when ``nnUNet_extTrainer`` names this folder.

Only names: a class defined here would be imported under a second name and then dropped from ``sys.modules``.
"""

from nnunetv2_promise import trainers

globals().update({name: getattr(trainers, name) for name in trainers.__all__})
