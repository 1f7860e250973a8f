"""How does a cell become layers with parameters, in `torch.nn`'s manners?"""

from throughtime.nn import init
from throughtime.nn.named import GRU, LSTM, RNN
from throughtime.nn.recurrent import Recurrent
from throughtime.nn.single import GRUCell, LSTMCell, RNNCell
from throughtime.nn.states import detach

__all__ = ["GRU", "LSTM", "RNN", "GRUCell", "LSTMCell", "RNNCell", "Recurrent", "detach", "init"]
