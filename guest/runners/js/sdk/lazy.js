// Globals that most agents do not use. Their modules are read when one of them is: they would take room in the memory of each agent.
import { native } from "bulkhead:native";

const MODULES = {
  "bulkhead:abort": ["AbortController", "AbortSignal"],
  "bulkhead:fetch": ["Headers", "Request", "Response", "fetch"],
  "bulkhead:url": ["URL", "URLSearchParams"],
};

/** Defines a global that is read for the first time. What the author has put in its place stays. */
export const define = (name, value) => {
  if (Object.getOwnPropertyDescriptor(globalThis, name)?.get !== undefined) Object.defineProperty(globalThis, name, { value, configurable: true, writable: true });
};

for (const [module, names] of Object.entries(MODULES)) {
  for (const name of names) {
    Object.defineProperty(globalThis, name, {
      get() {
        native.load(module);
        return globalThis[name];
      },
      set(value) { Object.defineProperty(globalThis, name, { value, configurable: true, writable: true }); },
      configurable: true,
    });
  }
}
