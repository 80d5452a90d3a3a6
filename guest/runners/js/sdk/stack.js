// Where an error comes from, as QuickJS writes it: a line for each function.

/** The constructors of an error's class, the base first. */
const constructors = (error) => {
  const found = [];
  for (let type = error.constructor; typeof type === "function" && type !== Function.prototype; type = Object.getPrototypeOf(type)) found.unshift(type);
  return found;
};

const isFrameOf = (line, { name, fileName }) => line.startsWith(`    at ${(typeof name === "string" && name) || "<anonymous>"} (${fileName}:`);

/** The stack of an error, from where it was made. QuickJS begins it in the constructors of the error's own class. */
export const stackOf = (error) => {
  const lines = String(error.stack ?? "").split("\n");
  for (const type of constructors(error)) if (isFrameOf(lines[0], type)) lines.shift();
  return lines.join("\n");
};

/** The same without the SDK's functions. */
export const authorsStackOf = (error) => stackOf(error).split("\n").filter((line) => !/ \(@?bulkhead[:/]/.test(line)).join("\n");
