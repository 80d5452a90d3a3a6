var i=[];function t(n){return i.filter(r=>r.name===n)[0]}function e(n){return`a rig named ${t(n).name.toUpperCase()}`}function s(n){let r=n.split(" ");return e(r[0])}export{s as run};
//# sourceMappingURL=agent.js.map
