// Types are stripped, and places stay where the author has them.
import { agent } from "@bulkhead/agent";

interface Note {
  readonly text: string;
}

type Notes = Note[];

function last(notes: Notes): string {
  return notes.at(-1)!.text as string;
}

/** The globals have types. */
export async function titles(base: URL, signal: AbortSignal): Promise<string[]> {
  const url = new URL("/notes", base);
  url.searchParams.set("limit", "10");
  const response: Response = await fetch(url, { headers: { accept: "application/json" }, signal });
  if (!response.ok) throw new Error(`status ${response.status} of ${response.url}`);
  return (await response.json()) as string[];
}

export default agent({
  state: { notes: [] as Notes },
  message({ text }: { text: string }, { state }): string {
    if (text === "last") return last(state.notes);
    state.notes.push({ text } satisfies Note);
    return `${state.notes.length}`;
  },
});
