"""Convolutions and their gradients."""

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jsafe.ops.convolution import convolve


def xla(x, kernel, stride):
    return lax.conv_general_dilated(x, kernel, (stride, stride), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"))


@pytest.mark.parametrize(("size", "stride", "side"), [(3, 2, 8), (4, 3, 12), (3, 1, 5)])
def test_values_gradients_and_directions_are_xlas(size, stride, side):
    rng = np.random.default_rng(0)
    x, dx = rng.standard_normal((2, 3, side, side + 1, 2)).astype(np.float32)
    kernel, dkernel = rng.standard_normal((2, size, size, 2, 4)).astype(np.float32)

    def seen(function):
        y, pull = jax.vjp(lambda x, kernel: function(x, kernel, stride), x, kernel)
        along = jax.jvp(lambda x, kernel: function(x, kernel, stride), (x, kernel), (dx, dkernel))[1]
        batched = jax.vmap(jax.grad(lambda k: (function(x, k, stride) ** 2).sum()))(jnp.stack([kernel, dkernel]))
        return y, pull(jnp.cos(y)), along, batched

    for ours, theirs in zip(*map(jax.tree.leaves, (seen(convolve), seen(xla))), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=2e-5, atol=2e-5)


def test_a_picture_that_nobody_learns_costs_no_gradient():
    x, kernel = jnp.ones((1, 5, 5, 1)), jnp.ones((3, 3, 1, 2))
    of_kernel = jax.make_jaxpr(lambda k: jax.linearize(lambda k: convolve(x, k, 2), k)[1](k))(kernel)
    of_both = jax.make_jaxpr(lambda x, k: jax.linearize(lambda x, k: convolve(x, k, 2), x, k)[1](x, k))(x, kernel)
    assert str(of_kernel).count("platform_index") < str(of_both).count("platform_index")


def test_gradients_are_products_on_a_cpu_and_xlas_elsewhere():
    x, kernel = jnp.ones((2, 7, 7, 1)), jnp.ones((3, 3, 1, 2))
    slope = jax.jit(jax.grad(lambda x, kernel: (convolve(x, kernel, 2) ** 2).sum(), (0, 1)))
    texts = {on: jax.export.export(slope, platforms=[on])(x, kernel).mlir_module() for on in ("cpu", "cuda", "tpu")}
    found = {on: text.count("stablehlo.convolution") for on, text in texts.items()}
    assert found == {"cpu": 1, "cuda": 3, "tpu": 3}
