import{agent as r}from"@bulkhead/agent";function n(e){return e.length}function t(){Promise.reject(new TypeError("nobody handles me"))}var o=r({message({text:e}){return e==="later"?(t(),"later"):`${n(e==="crash"?void 0:e.split(" "))}`}});export{o as default};
//# sourceMappingURL=agent.js.map
