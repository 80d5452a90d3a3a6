// Answers with what it is told, as guest/echo does.
import { agent } from "@bulkhead/agent";

export default agent({
  message({ text }) {
    if (text === "crash") throw new TypeError("told to crash");
    return text;
  },
});
