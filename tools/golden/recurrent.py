"""LSTM, GRU and RNN over whole sequences.

Writes crates/tensor/tests/golden/{lstm,gru,rnn,recurrent_cells}.safetensors; see common.py for the names. The last
has one step of each: in.x [B, I], in.h, in.c [B, H]; out.h, out.c. The others:

    in.x [B, T, I], optionally in.h0 and, for lstm, in.c0 [layers * directions, B, H], in.lengths [B]
    param.weight_ih_l0, weight_hh_l0, bias_ih_l0, bias_hh_l0, ..._l0_reverse, ..._l1 as PyTorch lays them out
    out.y [B, T, directions * H], zero beyond a sequence's length; out.h, and out.c: the states after each sequence's
    own end
    attributes: num_layers, bidirectional, bias, and nonlinearity = "tanh" | "relu" for rnn

Gates stand in a weight's rows in PyTorch's order: lstm input, forget, cell, output; gru reset, update, new.
"""

import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from common import TENSOR, Golden

B, T, I, H = 3, 6, 3, 3


def call(module, x, h0=None, c0=None, lengths=None):
    state = None if h0 is None else ((h0, c0) if c0 is not None else h0)
    if lengths is None:
        y, state = module(x, state)
    else:
        packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        y, state = module(packed, state)
        y, _ = pad_packed_sequence(y, batch_first=True, total_length=x.shape[1])
    if isinstance(state, tuple):
        return {"y": y, "h": state[0], "c": state[1]}
    return {"y": y, "h": state}


def record(name, make):
    with Golden(TENSOR, name) as golden:
        for case, layers, both, bias, state, lengths in (
            ("plain", 1, False, True, False, None),
            ("without_bias", 1, False, False, False, None),
            ("state", 1, False, True, True, None),
            ("bidirectional", 1, True, True, True, None),
            ("two_layers_bidirectional", 2, True, True, False, None),
            ("lengths", 1, False, True, True, [4, 6, 1]),
            ("two_layers_bidirectional_lengths", 2, True, True, True, [4, 6, 1]),
        ):
            module = make(I, H, layers, bias=bias, batch_first=True, bidirectional=both)
            inputs = {"x": golden.normal(B, T, I)}
            if state:
                inputs["h0"] = golden.normal(layers * (1 + both), B, H)
                if name == "lstm":
                    inputs["c0"] = golden.normal(layers * (1 + both), B, H)
            if lengths:
                inputs["lengths"] = torch.tensor(lengths)
            attributes = {"num_layers": layers, "bidirectional": both, "bias": bias}
            if name == "rnn":
                attributes["nonlinearity"] = "tanh"
            golden.layer(case, module, call, inputs, scale=0.5, **attributes)
        if name == "rnn":
            module = nn.RNN(I, H, batch_first=True, nonlinearity="relu")
            golden.layer(
                "relu",
                module,
                call,
                {"x": golden.normal(B, T, I)},
                scale=0.4,
                num_layers=1,
                bidirectional=False,
                bias=True,
                nonlinearity="relu",
            )


def cells():
    with Golden(TENSOR, "recurrent_cells") as golden:
        for case, module in (
            ("lstm_cell", nn.LSTMCell(I, H)),
            ("gru_cell", nn.GRUCell(I, H)),
            ("rnn_cell", nn.RNNCell(I, H)),
        ):

            def step(module, x, h, c=None):
                if c is None:
                    return {"h": module(x, h)}
                h, c = module(x, (h, c))
                return {"h": h, "c": c}

            inputs = {"x": golden.normal(B, I), "h": golden.normal(B, H)}
            if case == "lstm_cell":
                inputs["c"] = golden.normal(B, H)
            golden.layer(case, module, step, inputs, scale=0.5)


if __name__ == "__main__":
    record("lstm", nn.LSTM)
    record("gru", nn.GRU)
    record("rnn", nn.RNN)
    cells()
