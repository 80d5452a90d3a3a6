// How a container ended, as the platform shows it, and as the host reads it from BULKHEAD_PREVIOUS_EXIT.

export interface Exit {
  /** When it was seen, as an ISO date. */
  at: string;
  /** 0 to 255, where the platform names one. */
  code?: number;
  /** The platform's words, or those of the Durable Object, at most 200 characters. */
  reason: string;
}

/** No restart changes it. */
const INVALID_CONFIGURATION = 2;

/** `monitor()` of a container resolves at exit code 0, and rejects otherwise, with the code in its words alone. */
export function exitOf(error: unknown, at: Date, stopping: boolean): Exit {
  const words = error === undefined ? "exited" : error instanceof Error ? error.message : String(error);
  const code = error === undefined ? "0" : /(?:exit code|signalled the container to exit): (\d{1,3})\b/i.exec(words)?.[1];
  return {
    at: at.toISOString(),
    ...(code !== undefined && Number(code) <= 255 && { code: Number(code) }),
    // `stop` is a word by which the host knows that it was meant to end.
    reason: (stopping ? `stop by the Durable Object: ${words}` : words).slice(0, 200),
  };
}

/** The end of a container that nobody saw: the Durable Object was not awake. */
export function unseen(at: Date): Exit {
  return { at: at.toISOString(), reason: "ended while nobody watched" };
}

/** For ends that the object did not ask for. Clean ones are among them: a platform that takes a machine stops what runs there in order. */
export function restarts(exit: Exit): boolean {
  return exit.code !== INVALID_CONFIGURATION;
}

/** The value of BULKHEAD_PREVIOUS_EXIT. */
export function previousExit({ code, reason }: Exit): string {
  return JSON.stringify({ code, reason });
}
