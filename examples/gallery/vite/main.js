document.querySelector('#hello').textContent = 'hello from vite';
