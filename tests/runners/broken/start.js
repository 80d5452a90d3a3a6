import { agent } from "@bulkhead/agent";

export default agent({
  start() {
    throw new RangeError("not today");
  },
  message: ({ text }) => text,
});
