"""What a voxel is: grids, worlds, files, labels and objects, and nothing of prompts."""
