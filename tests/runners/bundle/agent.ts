// A bundler makes `first/agent.js` of this, and `edited/agent.js` of it with a line more above:
// esbuild agent.ts --bundle --minify --format=esm --sourcemap --external:@bulkhead/agent --outfile=first/agent.js
import { agent } from "@bulkhead/agent";

function measure(words: string[] | undefined): number {
  return words!.length;
}

function later(): void {
  void Promise.reject(new TypeError("nobody handles me"));
}

export default agent({
  message({ text }: { text: string }): string {
    if (text === "later") return later(), "later";
    return `${measure(text === "crash" ? undefined : text.split(" "))}`;
  },
});
