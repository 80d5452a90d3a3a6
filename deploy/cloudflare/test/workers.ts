// What the runtime gives: as little of it as the town uses, so that Node.js runs the tests.
import { timingSafeEqual } from "node:crypto";

export class DurableObject<Env> {
  constructor(
    protected ctx: DurableObjectState,
    protected env: Env,
  ) {}
}

Object.assign(globalThis, { scheduler: { wait: (ms: number) => new Promise((done) => setTimeout(done, ms)) } });
Object.assign(crypto.subtle, { timingSafeEqual });
