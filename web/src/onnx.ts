// One value in an ONNX file. ONNX Runtime's JavaScript takes no input that has a default in the file, so the
// default itself is set before the file is loaded.

// Field numbers of onnx.proto3: ModelProto.graph, GraphProto.initializer; of TensorProto name and raw_data,
// and float_data, which is packed.
const GRAPH = 7;
const INITIALIZER = 5;
const NAME = 8;
const RAW_DATA = 9;
const FLOAT_DATA = 4;

/** Sets all numbers of the float32 initializer `name` to `value`, in place. */
export function setInitializer(model: Uint8Array, name: string, value: number): void {
  for (const graph of fields(model).filter((one) => one.field === GRAPH)) {
    for (const tensor of fields(graph.content).filter((one) => one.field === INITIALIZER)) {
      const parts = fields(tensor.content);
      const called = parts.find((one) => one.field === NAME)?.content;
      if (!called || new TextDecoder().decode(called) !== name) continue;
      const data = parts.find((one) => (one.field === RAW_DATA || one.field === FLOAT_DATA) && one.content.length > 0);
      if (data) return fill(data.content, value);
    }
  }
  throw new Error(`the model file has no input “${name}” with a default; export it again with: maskwatch export`);
}

function fill(bytes: Uint8Array, value: number): void {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (let at = 0; at + 4 <= bytes.length; at += 4) view.setFloat32(at, value, true);
}

interface Field {
  field: number;
  content: Uint8Array;
}

/** Fields of a protobuf message that have a length; wire format: https://protobuf.dev/programming-guides/encoding/ */
function fields(message: Uint8Array): Field[] {
  const found: Field[] = [];
  let at = 0;
  const varint = (): number => {
    let value = 0;
    for (let scale = 1; ; scale *= 128) {
      const byte = message[at++];
      if (byte === undefined) throw new Error("the model file is cut short; load the page again");
      value += (byte & 0x7f) * scale;
      if (byte < 0x80) return value;
    }
  };
  while (at < message.length) {
    const key = varint();
    const type = key & 7;
    if (type === 0) varint();
    else if (type === 1 || type === 5) at += type === 1 ? 8 : 4;
    else if (type === 2) {
      const length = varint();
      found.push({ field: Math.floor(key / 8), content: message.subarray(at, at + length) });
      at += length;
    } else throw new Error("this is no ONNX file; export it again with: maskwatch export");
  }
  return found;
}
