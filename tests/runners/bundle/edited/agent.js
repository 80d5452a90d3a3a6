import{agent as n}from"@bulkhead/agent";var r="hello";function t(e){return e.length}function i(){Promise.reject(new TypeError("nobody handles me"))}var s=n({message({text:e}){return e==="later"?(i(),r):`${t(e==="crash"?void 0:e.split(" "))}`}});export{s as default};
//# sourceMappingURL=agent.js.map
