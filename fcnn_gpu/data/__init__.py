"""What a network is fed: samples checked and taken in, on the device or streaming through it."""

from ._class_weights import class_weights_to_sample_weights as class_weights_to_sample_weights
from ._device_data import BatchViews as BatchViews
from ._device_data import DeviceData as DeviceData
from ._device_data import InputMap as InputMap
from ._device_data import Samples as Samples
from ._device_data import Stretch as Stretch
from ._device_data import epoch_order as epoch_order
from ._device_data import leaves_single_sample as leaves_single_sample
from ._input_checks import Features as Features
from ._input_checks import check_features as check_features
from ._input_checks import features as features
from ._intake import DataSupply as DataSupply
from ._intake import Intake as Intake
from ._stream import ChunkStream as ChunkStream
from ._stream import StreamedData as StreamedData
from ._supply import ArraySupply as ArraySupply
from ._supply import SourceFeatures as SourceFeatures
from ._supply import SourceSupply as SourceSupply
from ._validation_split import split_validation as split_validation
from ._what_streams import DataSet as DataSet
from ._what_streams import Need as Need
from ._what_streams import add_up as add_up
from ._what_streams import bytes_of_stream as bytes_of_stream
from ._what_streams import plan as plan
