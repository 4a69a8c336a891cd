"""The batched Safety-Gymnasium engine: numpy and MuJoCo only."""
