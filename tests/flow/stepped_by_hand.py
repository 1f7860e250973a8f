"""torch's modules, a row and a step at a time, with the gradient of every state kept.

It shares nothing with the package: torch's documented equations, and its parameters by name.
"""

import torch


def cell_step(mode, x, states, w_ih, w_hh, b_ih, b_hh, w_hr=None):
    """The next states, (h,) or (h, c)."""
    h = states[0]
    on_x = x @ w_ih.T + (0 if b_ih is None else b_ih)
    on_h = h @ w_hh.T + (0 if b_hh is None else b_hh)
    if mode == "RNN_TANH":
        return (torch.tanh(on_x + on_h),)
    if mode == "RNN_RELU":
        return (torch.relu(on_x + on_h),)
    if mode == "GRU":
        r_x, z_x, n_x = on_x.chunk(3, -1)
        r_h, z_h, n_h = on_h.chunk(3, -1)
        z = torch.sigmoid(z_x + z_h)
        n = torch.tanh(n_x + torch.sigmoid(r_x + r_h) * n_h)
        return ((1 - z) * n + z * h,)
    i, f, g, o = (on_x + on_h).chunk(4, -1)
    c = torch.sigmoid(f) * states[1] + torch.sigmoid(i) * torch.tanh(g)
    h = torch.sigmoid(o) * torch.tanh(c)
    return (h if w_hr is None else h @ w_hr.T, c)


def kept(states):
    """The states of a step with their gradients to be kept: each with the others held fixed.

    So they get names of their own: h_t is made from c_t, but the state handed on is (h_t, c_t).
    """
    states = tuple(s.clone() for s in states)
    for s in states:
        s.retain_grad()
    return states


def row_by_hand(module, x, start=None, masks=()):
    """One row through all layers.

    Args:
        module: nn.RNN, nn.LSTM or nn.GRU.
        x: [T, I].
        start: For each layer and direction its states, each [w]; zeros if None.
        masks: What the output of each layer but the last is multiplied by, each [T, O].

    Returns:
        The output, [T, O]; and by (layer, reverse) the states of each step, in the order of steps.
    """
    found, place = {}, 0
    for layer in range(module.num_layers):
        outputs = []
        for reverse in (False, True)[: 1 + module.bidirectional]:
            suffix = f"_l{layer}{'_reverse' if reverse else ''}"
            names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr")
            weights = [getattr(module, n + suffix, None) for n in names]
            width = module.proj_size or module.hidden_size
            zeros = [x.new_zeros(width)] + [x.new_zeros(module.hidden_size)] * (
                module.mode == "LSTM"
            )
            states = tuple(zeros) if start is None else start[place]
            order = range(len(x) - 1, -1, -1) if reverse else range(len(x))
            steps = []
            for t in order:
                states = kept(cell_step(module.mode, x[t], states, *weights))
                steps.append(states)
            found[layer, reverse] = steps
            hs = [s[0] for s in steps]
            outputs.append(torch.stack(hs[::-1] if reverse else hs))
            place += 1
        x = torch.cat(outputs, -1)
        if layer < len(masks):
            x = x * masks[layer]
    return x, found


def kept_gradients(steps, i):
    """The gradient of state i at every step; zero where nothing reads it."""
    return torch.stack([torch.zeros_like(s[i]) if s[i].grad is None else s[i].grad for s in steps])


def adjoints(passage):
    """dE/ds_t for every step, by the passage alone: what comes in, and what is handed back."""
    assert passage.steps.depth == 1
    total = [s.clone() for s in passage.seeds]
    for t in range(passage.steps.count - 1, 0, -1):
        back = passage.steps.pulled(t, [s[t].unsqueeze(0) for s in total]).past
        for (i, _), g in back.items():
            total[i][t - 1] += g[0] * passage.reached[0, t].unsqueeze(-1)
    return total
