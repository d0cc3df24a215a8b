#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Compares `nibble quantize-onnx` with MatMulNBitsQuantizer of PyPI `onnxruntime` on models made here: subgraphs, shared weights, external
data, f16 and bf16, weights with leading dimensions of 1, excluded nodes.

    onnx_model_equal.py --nibble PROGRAM [MODEL.onnx]...

Nodes must be the same in the same order, constants the same by name, type, shape and bytes; onnx.checker must accept the file and an ONNX
Runtime session give the same output. Where a weight has leading dimensions, nibble reshapes with one node of its own: there the outputs are
compared. Exit status 77 with a reason: skipped.
"""
import argparse
import logging
import os
import subprocess
import sys
import tempfile

try:
    import numpy as np
    import onnx
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer
except ImportError as e:
    print(f"skipped: {e} (pip install onnxruntime onnx onnx-ir)")
    sys.exit(77)


def make_model(rng, kind):
    f16 = kind == "f16"
    kind_of = TensorProto.FLOAT16 if f16 else TensorProto.BFLOAT16 if kind == "bf16" else TensorProto.FLOAT
    constants = []

    def weight(name, *dims):
        w = rng.normal(0, 0.1, dims).astype(np.float32)
        if kind == "bf16":
            constants.append(helper.make_tensor(name, TensorProto.BFLOAT16, dims, (w.view(np.uint32) >> 16).astype(np.uint16).tobytes(), raw=True))
        else:
            constants.append(numpy_helper.from_array(w.astype(np.float16 if f16 else np.float32), name))
        return name

    value = lambda name, dims: helper.make_tensor_value_info(name, kind_of, dims)
    nodes = [
        helper.make_node("MatMul", ["x", weight("w0", 64, 48)], ["a"], name="first"),
        helper.make_node("MatMul", ["a", weight("w1", 48, 48)], ["b"], name="out"),
        helper.make_node("MatMul", ["b", "w1"], ["c"], name=""),
        helper.make_node("MatMul", ["c", weight("kept", 48, 64)], ["d"], name="/layer/kept"),
        helper.make_node("MatMul", ["d", "d2"], ["e"], name="not constant"),
    ]
    inputs = [value("x", ["batch", 64]), value("d2", [64, 33])]
    last, shape = "e", ["batch", 33]
    if kind == "subgraph":
        then = helper.make_graph([helper.make_node("MatMul", ["e", weight_of(rng, "inner", 33, 20)[0]], ["t"], name="then")], "then", [], [value("t", ["batch", 20])], [weight_of(rng, "inner", 33, 20)[1]])
        other = helper.make_graph([helper.make_node("MatMul", ["e", weight("outer", 33, 20)], ["o"], name="else")], "else", [], [value("o", ["batch", 20])])
        nodes.append(helper.make_node("If", ["yes"], ["y"], name="branch", then_branch=then, else_branch=other))
        inputs.append(helper.make_tensor_value_info("yes", TensorProto.BOOL, []))
        last, shape = "y", ["batch", 20]
    if kind == "leading":
        nodes.append(helper.make_node("MatMul", ["e", weight("w3", 1, 1, 33, 16)], ["y"], name="leading"))
        last, shape = "y", [1, 1, "batch", 16]
    if kind == "input":
        inputs.append(value("w0", [64, 48]))
    graph = helper.make_graph(nodes, "g", inputs, [value(last, shape)], constants, value_info=[value("e", ["batch", 33])], doc_string="kept as it is")
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10, producer_name="judge")
    model.metadata_props.add(key="license", value="none")
    return model


def weight_of(rng, name, *dims):
    return name, numpy_helper.from_array(np.random.default_rng(7).normal(0, 0.1, dims).astype(np.float32), name)


def contents(tensors):
    return {t.name: (t.data_type, tuple(t.dims), t.raw_data or numpy_helper.to_array(t).tobytes()) for t in tensors}


def compare_graphs(ours, theirs, where, reshaped):
    found = []
    plain = lambda graph: [(n.op_type, n.domain, n.name, list(n.input), list(n.output), [a for a in n.attribute if a.type not in (5, 10)]) for n in graph.node]
    if not reshaped and plain(ours) != plain(theirs):
        found.append(f"{where}: nodes differ:\n  {[n[:5] for n in plain(ours)]}\n  {[n[:5] for n in plain(theirs)]}")
    a, b = contents(ours.initializer), contents(theirs.initializer)
    for name in sorted(set(a) | set(b)):
        if a.get(name) != b.get(name) and not (reshaped and ("_reshape" in name or "_leading_axes" in name or name not in a or name not in b)):
            found.append(f"{where}: constant {name}: {str(a.get(name))[:60]} and {str(b.get(name))[:60]}")
    if not reshaped and [i.name for i in ours.input] != [i.name for i in theirs.input]:
        found.append(f"{where}: inputs differ")
    for x, y in zip(ours.node, theirs.node):
        for p, q in zip(x.attribute, y.attribute):
            if p.type == 5:
                found += compare_graphs(p.g, q.g, where + "/" + p.name, reshaped)
    return found


def outputs(path, seed=3):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(seed)
    feeds = {}
    for i in session.get_inputs():
        dims = [d if isinstance(d, int) else 3 for d in i.shape]
        kind = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(bool)": np.bool_}[i.type]
        feeds[i.name] = np.array(True) if kind is np.bool_ else rng.normal(0, 1, dims).astype(kind)
    return session.run(None, feeds)


def main():
    logging.disable(logging.INFO)
    parser = argparse.ArgumentParser()
    parser.add_argument("--nibble", required=True)
    parser.add_argument("models", nargs="*")
    a = parser.parse_args()
    rng = np.random.default_rng(1)
    wrong = count = 0
    with tempfile.TemporaryDirectory() as folder:
        path = lambda name: os.path.join(folder, name)
        made = [("given", m) for m in a.models]
        for kind in ("plain", "f16", "bf16", "subgraph", "leading", "input", "external"):
            model = make_model(rng, kind)
            if kind == "external":
                onnx.save(model, path(kind + ".onnx"), save_as_external_data=True, location="weights.bin", size_threshold=0)
            else:
                onnx.save(model, path(kind + ".onnx"))
            made.append((kind, path(kind + ".onnx")))
        for kind, model in made:
            for bits, block, symmetric, level, excluded in ((4, 32, True, 0, []), (4, 128, False, 0, ["/layer/kept"]), (8, 16, False, 4, []), (2, 64, True, 1, ["first", "nobody"])):
                if kind == "bf16" and bits == 2:
                    continue
                count += 1
                command = [a.nibble, "quantize-onnx", model, "-o", path("ours.onnx"), "--bits", str(bits), "--block", str(block), "--accuracy-level", str(level), "--overwrite", "--quiet"]
                command += ["--symmetric"] if symmetric else []
                for name in excluded:
                    command += ["--exclude", name]
                subprocess.run(command, check=True)
                quantizer = MatMulNBitsQuantizer(model, bits=bits, block_size=block, is_symmetric=symmetric, accuracy_level=level, nodes_to_exclude=excluded)
                quantizer.process()
                onnx.save(quantizer.model.model, path("theirs.onnx"))
                ours, theirs = onnx.load(path("ours.onnx")), onnx.load(path("theirs.onnx"))
                found = compare_graphs(ours.graph, theirs.graph, f"{kind} {bits} {block} {symmetric}", kind == "leading")
                if [(o.domain, o.version) for o in ours.opset_import] != [(o.domain, o.version) for o in theirs.opset_import]:
                    found.append(f"{kind}: opsets differ")
                for field in ("ir_version", "producer_name", "metadata_props"):
                    if getattr(ours, field) != getattr(theirs, field):
                        found.append(f"{kind}: {field} differs")
                onnx.checker.check_model(path("ours.onnx"))
                if kind != "bf16":
                    for x, y in zip(outputs(path("ours.onnx")), outputs(path("theirs.onnx"))):
                        if x.shape != y.shape or x.tobytes() != y.tobytes():
                            found.append(f"{kind}: outputs differ")
                for line in found:
                    print(line)
                wrong += len(found) != 0
    print(f"{count} models, {wrong} differ")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
