var t;onmessage=({data:e})=>{clearTimeout(t),e&&(t=setTimeout(postMessage,e,0))};
