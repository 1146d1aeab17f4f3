"""The value head on the policy's backbone."""

import torch
from jaxtyping import Float
from torch import Tensor, nn


class ValueHead(nn.Module):
    """Linear map from a hidden state to the value of the state, in reward units; starts at 0 (lm-human-preferences).

    It computes in float32 whatever the backbone's dtype is.
    """

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.linear = nn.Linear(hidden_size, 1)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, hidden: Float[Tensor, "B T D"], prompt_width: int) -> Float[Tensor, "B R"]:
        """Compute the values of the states before each response token: positions P - 1 to T - 2, P = `prompt_width`."""
        return self.at(hidden[:, prompt_width - 1 : -1])

    def at(self, states: Float[Tensor, "B R D"]) -> Float[Tensor, "B R"]:
        """Compute the values of given states, such as those that a sampler drew its tokens from."""
        values: Tensor = self.linear(states.to(self.linear.weight.dtype))
        return values.squeeze(-1)

    def load_from_reward(
        self, weight: Float[Tensor, " D"], bias: Float[Tensor, ""], *, mean: float, std: float
    ) -> None:
        """Start as the normalised reward head, read at every state: (w h + b - mean) / std.

        Huang et al. 2024 (arXiv 2403.17031) find that it learns better than a start at 0.
        """
        with torch.no_grad():
            self.linear.weight.copy_((weight / std).unsqueeze(0))
            self.linear.bias.copy_(((bias - mean) / std).reshape(1))
