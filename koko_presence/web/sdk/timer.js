/** The worker that link.js makes of a data address, as a file for pages whose policy forbids that. */
onmessage=e=>{clearTimeout(self.t);if(e.data)t=setTimeout(postMessage,e.data,0)}
