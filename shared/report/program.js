/*
 * Programs: small models as lists of operations on float32 tensors of one sample, [channels, height, width] or [values].
 *
 * Weights are integers of 8 bits, with a factor for each output. A worker writes the lists: an operation here has a
 * function in worker/exports/page_operations.py that makes it.
 */
const PROGRAM = (() => {
  const bytesOf = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const floatsOf = (text) => new Float32Array(bytesOf(text).buffer);

  // A layer's weights: made of their integers once, before the first answer.
  function weightsOf(operation) {
    if (!operation.floats) {
      const integers = new Int8Array(bytesOf(operation.weights).buffer);
      const scales = floatsOf(operation.scales);
      const each = integers.length / scales.length;
      operation.floats = Float32Array.from(integers, (value, place) => value * scales[Math.floor(place / each)]);
      operation.added = floatsOf(operation.bias);
    }
    return [operation.floats, operation.added];
  }

  function convolution(operation, [input]) {
    const [weights, added] = weightsOf(operation);
    const [inputs, lines, places] = input.shape, [outputs, rows, columns] = operation.shape;
    const [kernelRows, kernelColumns] = operation.kernel, [down, right] = operation.strides;
    const ofGroup = inputs / operation.groups, outputsOfGroup = outputs / operation.groups;
    const values = new Float32Array(outputs * rows * columns);
    let next = 0;
    for (let output = 0; output < outputs; output++) {
      values.fill(added[output], output * rows * columns, (output + 1) * rows * columns);
      const first = Math.floor(output / outputsOfGroup) * ofGroup;
      for (let channel = first; channel < first + ofGroup; channel++) {
        for (let y = 0; y < kernelRows; y++) {
          for (let x = 0; x < kernelColumns; x++) {
            const weight = weights[next++];
            const above = y * operation.dilations[0] - operation.pads[0];
            const left = x * operation.dilations[1] - operation.pads[1];
            // Of these columns the window's place lies within the input.
            const from = Math.max(0, Math.ceil(-left / right));
            const end = Math.min(columns, Math.floor((places - 1 - left) / right) + 1);
            for (let row = 0; row < rows; row++) {
              const line = row * down + above;
              if (line < 0 || line >= lines) continue;
              const source = (channel * lines + line) * places + left, target = (output * rows + row) * columns;
              for (let column = from; column < end; column++) {
                values[target + column] += weight * input.values[source + column * right];
              }
            }
          }
        }
      }
    }
    return values;
  }

  function linear(operation, [input]) {
    const [weights, added] = weightsOf(operation);
    return Float32Array.from(added, (bias, output) => {
      const first = output * input.values.length;
      return input.values.reduce((sum, value, place) => sum + value * weights[first + place], bias);
    });
  }

  // What `pick` takes of each window: its largest value, its sum, and how many values it has.
  function pool(operation, input, pick) {
    const [count, lines, places] = input.shape, [, rows, columns] = operation.shape;
    const [kernelRows, kernelColumns] = operation.kernel;
    const values = new Float32Array(count * rows * columns);
    for (let target = 0; target < values.length; target++) {
      const column = target % columns, row = Math.floor(target / columns) % rows;
      const channel = Math.floor(target / (columns * rows));
      let largest = -Infinity, sum = 0, seen = 0;
      for (let y = 0; y < kernelRows; y++) {
        const line = row * operation.strides[0] + y * operation.dilations[0] - operation.pads[0];
        if (line < 0 || line >= lines) continue;
        for (let x = 0; x < kernelColumns; x++) {
          const place = column * operation.strides[1] + x * operation.dilations[1] - operation.pads[1];
          if (place < 0 || place >= places) continue;
          const value = input.values[(channel * lines + line) * places + place];
          largest = Math.max(largest, value);
          sum += value;
          seen++;
        }
      }
      values[target] = pick(largest, sum, operation.counts_padding ? kernelRows * kernelColumns : seen);
    }
    return values;
  }

  // Values that are taken from an input's places; those outside it get `otherwise`.
  function moved(operation, input, placeOf, otherwise = 0) {
    const three = (shape) => [1, 1, ...shape].slice(-3);
    const [, rows, columns] = three(operation.shape), [count, lines, places] = three(input.shape);
    const values = new Float32Array(operation.shape.reduce((product, size) => product * size, 1)).fill(otherwise);
    for (let target = 0; target < values.length; target++) {
      const at = [Math.floor(target / (rows * columns)), Math.floor(target / columns) % rows, target % columns];
      const [channel, line, place] = placeOf(at);
      const within = channel >= 0 && channel < count && line >= 0 && line < lines && place >= 0 && place < places;
      if (within) values[target] = input.values[(channel * lines + line) * places + place];
    }
    return values;
  }

  function joined(operation, inputs, join) {
    const length = operation.shape.reduce((product, size) => product * size, 1);
    const [left, right] = inputs.map(({ values }) => ({ values, each: length / values.length }));
    return Float32Array.from({ length }, (_, place) =>
      join(left.values[Math.floor(place / left.each)], right.values[Math.floor(place / right.each)]));
  }

  function scaled(operation, [input]) {
    const scale = floatsOf(operation.scale), shift = floatsOf(operation.shift);
    const each = input.values.length / scale.length;
    return input.values.map((value, place) => value * scale[Math.floor(place / each)] + shift[Math.floor(place / each)]);
  }

  const clipped = (value, low, high) => Math.min(Math.max(value, low), high);
  const lastThree = (numbers, filler) => [filler, filler, ...numbers].slice(-3);
  const OPERATIONS = {
    convolution, linear, scale: scaled,
    same: (_, [input]) => input.values,
    largest: (operation, [input]) => pool(operation, input, (largest) => largest),
    average: (operation, [input]) => pool(operation, input, (_, sum, seen) => sum / seen),
    mean: (_, [{ values, shape }]) => Float32Array.from({ length: shape[0] }, (__, channel) => {
      const size = values.length / shape[0];
      return values.subarray(channel * size, (channel + 1) * size).reduce((sum, value) => sum + value, 0) / size;
    }),
    sum: (operation, inputs) => joined(operation, inputs, (left, right) => left + right),
    product: (operation, inputs) => joined(operation, inputs, (left, right) => left * right),
    concatenate: (_, inputs) => Float32Array.from(inputs.flatMap(({ values }) => [...values])),
    slice: (operation, [input]) => {
      const starts = lastThree(operation.starts, 0), steps = lastThree(operation.steps, 1);
      return moved(operation, input, (at) => at.map((place, axis) => starts[axis] + place * steps[axis]));
    },
    pad: (operation, [input]) => {
      const before = lastThree(operation.before, 0);
      return moved(operation, input, (at) => at.map((place, axis) => place - before[axis]), operation.value);
    },
    clip: ({ low = -Infinity, high = Infinity }, [input]) => input.values.map((value) => clipped(value, low, high)),
    leaky: ({ alpha }, [input]) => input.values.map((value) => (value < 0 ? alpha * value : value)),
    sigmoid: (_, [input]) => input.values.map((value) => 1 / (1 + Math.exp(-value))),
    hard_sigmoid: ({ alpha, beta }, [input]) => input.values.map((value) => clipped(alpha * value + beta, 0, 1)),
    hard_swish: (_, [input]) => input.values.map((value) => value * clipped(value / 6 + 0.5, 0, 1)),
    tanh: (_, [input]) => input.values.map((value) => Math.tanh(value)),
  };

  // The logits of a program for an image of bytes, of a shape [channels, height, width].
  function logitsOf(operations, pixels, shape) {
    const tensors = new Map([["0", { values: Float32Array.from(pixels), shape }]]);
    let last = null;
    for (const operation of operations) {
      const inputs = operation.inputs.map((name) => tensors.get(name));
      last = { values: OPERATIONS[operation.kind](operation, inputs), shape: operation.shape };
      tensors.set(operation.output, last);
    }
    return last.values;
  }

  function probabilitiesOf(logits) {
    const largest = logits.reduce((one, other) => Math.max(one, other));
    const powers = Array.from(logits, (logit) => Math.exp(logit - largest));
    const sum = powers.reduce((one, other) => one + other);
    return powers.map((power) => power / sum);
  }

  return { logitsOf, probabilitiesOf, bytesOf, clipped };
})();
