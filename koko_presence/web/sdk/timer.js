let t;onmessage=e=>{clearTimeout(t);if(e.data)t=setTimeout(postMessage,e.data,0)}
