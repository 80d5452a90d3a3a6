// Authorizes a request, and passes it to the town that its path names: /TOWN/agents, /TOWN/kept/exits.
import { TOWN_HEADER, type Env } from "./town";

export { Town } from "./town";

/** As the host takes it for `evidence.name`. */
const NAME = /^[A-Za-z0-9._-]{1,128}$/;

export default {
  async fetch(request: Request, env: Env): Promise<Response> {
    const url = new URL(request.url);
    const [, town = "", ...path] = url.pathname.split("/");
    if (!NAME.test(town)) return new Response("which town? /TOWN/agents\n", { status: 404 });
    // Here as well: a request starts a container, which nobody without the token may do.
    if (!authorized(request, env.CONTROL_TOKEN)) return new Response("unauthorized\n", { status: 401 });
    url.pathname = `/${path.join("/")}`;
    const passed = new Request(url, request);
    passed.headers.set(TOWN_HEADER, town);
    return env.TOWN.getByName(town).fetch(passed);
  },
} satisfies ExportedHandler<Env>;

function authorized(request: Request, token: string): boolean {
  const encoder = new TextEncoder();
  const given = encoder.encode(request.headers.get("authorization") ?? "");
  const wanted = encoder.encode(`Bearer ${token}`);
  return given.byteLength === wanted.byteLength && crypto.subtle.timingSafeEqual(given, wanted);
}
